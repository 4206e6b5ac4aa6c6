// Many tabletop worlds at once for training: expert data from all cores, and closed-loop rollouts with expert
// labels.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tabletop/expert.h"
#include "tabletop/record.h"
#include "tabletop/render.h"

using namespace flashrt::tabletop;

namespace {

template <class Work>
void spread(int count, int threads, Work work) {
  std::atomic<int> next{0};
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&] {
      for (int i = next++; i < count; i = next++) work(i);
    });
  }
  for (auto& t : pool) t.join();
}

struct Worlds {
  std::vector<Episode> episodes;
  std::vector<int> steps, streak;
  int image_size, horizon, threads;
};

void copy_text(const std::string& from, char* to, int bytes) {
  std::snprintf(to, size_t(bytes), "%s", from.c_str());
}

}  // namespace

extern "C" {

// Expert episodes first_seed, first_seed + 1, … into shared buffers, in no fixed order: images u8 [frames, 2,
// size, size, 3], states f32 [frames, 4], actions f32 [frames, horizon, 4], episode i32 [frames] (index from
// 0), prompts [episodes, prompt_bytes]. Episodes that do not fit into max_frames are dropped. Returns the
// number of frames.
int batch_record(uint64_t first_seed, int episodes, int threads, int image_size, int horizon, int stride,
                 float noise, int max_frames, uint8_t* images, float* states, float* actions,
                 int32_t* episode, char* prompts, int prompt_bytes) {
  RecordOptions options;
  options.image_size = image_size, options.horizon = horizon, options.stride = stride, options.noise = noise;
  std::atomic<int> used{0};
  spread(episodes, threads, [&](int i) {
    thread_local Recording r;
    record_episode(first_seed + uint64_t(i), options, r);
    int at = used.load();
    do {
      if (at + r.frames > max_frames) return;
    } while (!used.compare_exchange_weak(at, at + r.frames));
    std::copy(r.images.begin(), r.images.end(), images + size_t(at) * kCameras * image_bytes(image_size));
    std::copy(r.states.begin(), r.states.end(), states + size_t(at) * kStateDim);
    std::copy(r.actions.begin(), r.actions.end(), actions + size_t(at) * size_t(horizon) * kActionDim);
    std::fill_n(episode + at, r.frames, i);
    copy_text(r.prompt, prompts + size_t(i) * size_t(prompt_bytes), prompt_bytes);
  });
  return used;
}

void* batch_create(int count, int image_size, int horizon, int threads) {
  auto w = std::make_unique<Worlds>();
  w->episodes.resize(size_t(count));
  w->steps.resize(size_t(count)), w->streak.resize(size_t(count));
  w->image_size = image_size, w->horizon = horizon, w->threads = threads;
  return w.release();
}

void batch_destroy(void* worlds) { delete static_cast<Worlds*>(worlds); }

// Starts the episode of `seed` in one world.
void batch_reset(void* worlds, int index, uint64_t seed, char* prompt, char* swapped, int bytes) {
  auto* w = static_cast<Worlds*>(worlds);
  const size_t i = size_t(index);
  w->episodes[i] = make_episode(seed);
  w->steps[i] = w->streak[i] = 0;
  copy_text(w->episodes[i].prompt, prompt, bytes);
  copy_text(swapped_prompt(w->episodes[i]), swapped, bytes);
}

// images u8 [count, 2, size, size, 3], states f32 [count, 4]; labels (may be null) f32 [count, horizon, 4]:
// the expert rolled out from here.
void batch_observe(const void* worlds, uint8_t* images, float* states, float* labels) {
  const auto* w = static_cast<const Worlds*>(worlds);
  const size_t bytes = image_bytes(w->image_size);
  spread(int(w->episodes.size()), w->threads, [&](int index) {
    const size_t i = size_t(index);
    const Episode& e = w->episodes[i];
    for (int c = 0; c < kCameras; ++c) {
      render(e.world, Camera(c), w->image_size, {images + (i * kCameras + size_t(c)) * bytes, bytes});
    }
    const auto s = e.world.state();
    std::copy(s.begin(), s.end(), states + i * kStateDim);
    if (!labels) return;
    World copy = e.world;
    for (int t = 0; t < w->horizon; ++t) {
      const Action a = expert_action(copy, e.task);
      const float row[] = {a.dx, a.dy, a.dz, a.grip};
      std::copy(row, row + kActionDim, labels + (i * size_t(w->horizon) + size_t(t)) * kActionDim);
      copy.step(a);
    }
  });
}

// Executes the first `count` of each world's actions f32 [worlds, chunk, 4], stopping where an episode ends.
// status i32 [worlds]: 1 success, -1 out of time, 0 running; a world that has ended stays as it is.
void batch_step(void* worlds, const float* actions, int chunk, int count, int32_t* status) {
  auto* w = static_cast<Worlds*>(worlds);
  spread(int(w->episodes.size()), w->threads, [&](int index) {
    const size_t i = size_t(index);
    Episode& e = w->episodes[i];
    for (int t = 0; t < count && status[i] == 0; ++t) {
      const float* a = actions + (i * size_t(chunk) + size_t(t)) * kActionDim;
      e.world.step({a[0], a[1], a[2], a[3]});
      w->streak[i] = succeeded(e.world, e.task) ? w->streak[i] + 1 : 0;
      ++w->steps[i];
      status[i] = w->streak[i] >= kHoldFrames ? 1 : w->steps[i] >= kTimeLimit ? -1 : 0;
    }
  });
}

}  // extern "C"
