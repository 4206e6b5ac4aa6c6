// The world behind a C interface, for Python's ctypes: closed-loop evaluation, and training data straight
// into memory.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "tabletop/expert.h"
#include "tabletop/record.h"
#include "tabletop/render.h"

using namespace flashrt::tabletop;

namespace {

struct Handle {
  Episode episode;
  int image_size = kImageSize;
  int steps = 0, streak = 0;
};

void copy_text(const std::string& from, char* to, int bytes) {
  if (bytes > 0) std::snprintf(to, size_t(bytes), "%s", from.c_str());
}

}  // namespace

extern "C" {

void* tabletop_create(int image_size) {
  auto handle = std::make_unique<Handle>();
  handle->image_size = image_size;
  return handle.release();
}

void tabletop_destroy(void* world) { delete static_cast<Handle*>(world); }

// Starts the episode of `seed`; its prompt goes to `prompt`, and to `swapped` (may be null) one for another
// object.
void tabletop_reset(void* world, uint64_t seed, char* prompt, char* swapped, int bytes) {
  auto* h = static_cast<Handle*>(world);
  h->episode = make_episode(seed);
  h->steps = h->streak = 0;
  copy_text(h->episode.prompt, prompt, bytes);
  if (swapped) copy_text(swapped_prompt(h->episode), swapped, bytes);
}

// images: u8 [2, size, size, 3] (top, wrist); state: f32 [4].
void tabletop_observe(const void* world, uint8_t* images, float* state) {
  const auto* h = static_cast<const Handle*>(world);
  const size_t bytes = image_bytes(h->image_size);
  for (int c = 0; c < kCameras; ++c)
    render(h->episode.world, Camera(c), h->image_size, {images + size_t(c) * bytes, bytes});
  const auto s = h->episode.world.state();
  std::copy(s.begin(), s.end(), state);
}

void tabletop_expert(const void* world, float* action) {
  const auto* h = static_cast<const Handle*>(world);
  const Action a = expert_action(h->episode.world, h->episode.task);
  action[0] = a.dx, action[1] = a.dy, action[2] = a.dz, action[3] = a.grip;
}

// Executes action f32 [4]. Returns 1 on success, -1 when the time is up, else 0.
int tabletop_step(void* world, const float* action) {
  auto* h = static_cast<Handle*>(world);
  Episode& e = h->episode;
  e.world.step({action[0], action[1], action[2], action[3]});
  h->streak = succeeded(e.world, e.task) ? h->streak + 1 : 0;
  ++h->steps;
  return h->streak >= kHoldFrames ? 1 : h->steps >= kTimeLimit ? -1 : 0;
}

int tabletop_family(const void* world) { return int(static_cast<const Handle*>(world)->episode.task.family); }

// One recorded episode into the caller's buffers, at most `max_frames` frames: images u8 [frames, 2, size,
// size, 3], states f32 [frames, 4], actions f32 [frames, horizon, 4]. Returns the number of frames.
// Thread-safe.
int tabletop_rollout(uint64_t seed, int image_size, int horizon, int stride, float noise, int max_frames,
                     uint8_t* images, float* states, float* actions, char* prompt, int prompt_bytes) {
  thread_local Recording r;
  RecordOptions options;
  options.image_size = image_size;
  options.horizon = horizon;
  options.stride = stride;
  options.noise = noise;
  record_episode(seed, options, r);
  const size_t frames = size_t(std::min(r.frames, max_frames));
  if (frames > 0) {
    std::memcpy(images, r.images.data(), frames * kCameras * image_bytes(image_size));
    std::memcpy(states, r.states.data(), frames * kStateDim * sizeof(float));
    std::memcpy(actions, r.actions.data(), frames * size_t(horizon) * kActionDim * sizeof(float));
  }
  copy_text(r.prompt, prompt, prompt_bytes);
  return int(frames);
}

// Shards of README.md's format. Returns the number of frames, or -1 with a message on stderr.
long long tabletop_record(const char* folder, uint64_t first_seed, int episodes, int image_size, int horizon,
                          int stride, float noise) {
  try {
    RecordOptions options;
    options.image_size = image_size;
    options.horizon = horizon;
    options.stride = stride;
    options.noise = noise;
    return (long long)record_shards(folder, first_seed, episodes, options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tabletop: %s\n", e.what());
    return -1;
  }
}

}  // extern "C"
