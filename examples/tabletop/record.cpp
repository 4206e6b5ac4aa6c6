// The noise is executed but never imitated: labels are clean rollouts from copies of the perturbed world.
#include "tabletop/record.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "tabletop/expert.h"
#include "tabletop/random.h"
#include "tabletop/render.h"

namespace flashrt::tabletop {
namespace {

constexpr size_t kPromptBytes = 96;

// Bursts of wrong commands of 2 to 6 steps, now and then with the gripper flipped, over a small steady
// jitter.
class Noise {
 public:
  Noise(uint64_t seed, float share) : random_(seed ^ 0xabcdef0123456789ull), on_(random_.chance(share)) {}

  Action apply(Action a) {
    if (!on_) return a;
    if (left_ == 0 && random_.chance(0.08f)) {
      left_ = 2 + random_.below(5);
      burst_ = {random_.between(-1, 1), random_.between(-1, 1), random_.between(-0.8f, 0.8f), 0};
      flip_ = random_.chance(0.2f);
    }
    if (left_ > 0) {
      --left_;
      a = {a.dx * 0.3f + burst_.dx, a.dy * 0.3f + burst_.dy, a.dz * 0.5f + burst_.dz,
           flip_ ? -a.grip : a.grip};
    }
    a.dx += random_.between(-0.15f, 0.15f);
    a.dy += random_.between(-0.15f, 0.15f);
    a.dz += random_.between(-0.15f, 0.15f);
    return a;
  }

 private:
  Random random_;
  bool on_;
  int left_ = 0;
  Action burst_;
  bool flip_ = false;
};

void append_frame(const Episode& e, const RecordOptions& o, Recording& out) {
  const size_t bytes = image_bytes(o.image_size), at = out.images.size();
  out.images.resize(at + kCameras * bytes);
  for (int c = 0; c < kCameras; ++c) {
    render(e.world, Camera(c), o.image_size, {out.images.data() + at + size_t(c) * bytes, bytes});
  }
  for (float v : e.world.state()) out.states.push_back(v);
  World copy = e.world;
  for (int i = 0; i < o.horizon; ++i) {
    const Action a = expert_action(copy, e.task);
    out.actions.insert(out.actions.end(), {a.dx, a.dy, a.dz, a.grip});
    copy.step(a);
  }
  ++out.frames;
}

// File = header, then the arrays of README.md one after another, little endian.
struct ShardHeader {
  char magic[8];
  uint32_t frames, episodes, image_size, cameras, horizon, action_dim, state_dim, prompt_bytes;
  uint64_t first_seed;
  uint8_t padding[16];
};
static_assert(sizeof(ShardHeader) == 64);

// Pictures go to the file as they come; the small arrays follow, and the header is filled in last.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& path, uint64_t first_seed, const RecordOptions& o)
      : path_(path), file_(path, std::ios::binary | std::ios::trunc) {
    header_ = {{},
               0,
               0,
               uint32_t(o.image_size),
               kCameras,
               uint32_t(o.horizon),
               kActionDim,
               kStateDim,
               kPromptBytes,
               first_seed,
               {}};
    std::memcpy(header_.magic, "TABLETOP", sizeof header_.magic);
    write(&header_, sizeof header_);
  }

  void add(const Recording& r) {
    write(r.images.data(), r.images.size());
    states_.insert(states_.end(), r.states.begin(), r.states.end());
    actions_.insert(actions_.end(), r.actions.begin(), r.actions.end());
    episode_of_.insert(episode_of_.end(), size_t(r.frames), header_.episodes++);
    header_.frames += uint32_t(r.frames);
    const size_t at = prompts_.size();
    prompts_.resize(at + kPromptBytes);
    std::memcpy(prompts_.data() + at, r.prompt.data(), std::min(r.prompt.size(), kPromptBytes - 1));
  }

  size_t finish() {
    write(states_.data(), states_.size() * sizeof(float));
    write(actions_.data(), actions_.size() * sizeof(float));
    write(episode_of_.data(), episode_of_.size() * sizeof(uint32_t));
    write(prompts_.data(), prompts_.size());
    file_.seekp(0);
    write(&header_, sizeof header_);
    file_.flush();
    if (!file_) throw std::runtime_error("cannot write " + path_.string() + ": no permission or disk full");
    return header_.frames;
  }

 private:
  void write(const void* data, size_t bytes) {
    file_.write(static_cast<const char*>(data), std::streamsize(bytes));
  }

  std::filesystem::path path_;
  std::ofstream file_;
  ShardHeader header_;
  std::vector<float> states_, actions_;
  std::vector<uint32_t> episode_of_;
  std::vector<char> prompts_;  // [episodes, kPromptBytes]
};

}  // namespace

void record_episode(uint64_t seed, const RecordOptions& options, Recording& out) {
  Episode e = make_episode(seed);
  Noise noise(seed, options.noise);
  out.prompt = e.prompt;
  out.success = false;
  out.frames = 0;
  out.images.clear();
  out.states.clear();
  out.actions.clear();
  const int phase = options.stride > 1 ? Random(seed ^ 0x5555).below(options.stride) : 0;
  int streak = 0, after = 0;
  for (int t = 0; t < kTimeLimit && after < options.tail; ++t) {
    if (t % options.stride == phase) append_frame(e, options, out);
    const Action clean = expert_action(e.world, e.task);
    e.world.step(noise.apply(clean));
    streak = succeeded(e.world, e.task) ? streak + 1 : 0;
    out.success |= streak >= kHoldFrames;
    after = out.success ? after + 1 : 0;
  }
}

size_t record_shards(const std::filesystem::path& folder, uint64_t first_seed, int episodes,
                     const RecordOptions& options, int episodes_per_shard) {
  if (first_seed < kFirstTrainingSeed) {
    throw std::runtime_error("seed " + std::to_string(first_seed) +
                             " is reserved for evaluation: record from " +
                             std::to_string(kFirstTrainingSeed) + " on");
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw std::runtime_error("cannot create the folder " + folder.string() + ": " + error.message());
  size_t frames = 0;
  Recording recording;
  for (int done = 0; done < episodes;) {
    const uint64_t seed = first_seed + uint64_t(done);
    ShardWriter shard(folder / ("tabletop-" + std::to_string(seed) + ".bin"), seed, options);
    for (int i = 0; i < episodes_per_shard && done < episodes; ++i, ++done) {
      record_episode(first_seed + uint64_t(done), options, recording);
      shard.add(recording);
    }
    frames += shard.finish();
  }
  return frames;
}

}  // namespace flashrt::tabletop
