// The closed loop: a policy is asked for a chunk of actions, part of it is executed open loop, then it is
// asked again.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tabletop/render.h"
#include "tabletop/tasks.h"

namespace flashrt::tabletop {

// What a policy sees. Spans live until the next call.
struct Observation {
  std::span<const uint8_t> top, wrist;  // u8 [size, size, 3]
  int image_size = 0;
  std::span<const float> state;  // f32 [kStateDim]
  std::string_view prompt;
  uint64_t seed = 0;  // of the episode; with `step`, the seed of a policy's noise
  int step = 0;
  const Episode* truth = nullptr;  // the whole world: for the scripted expert only
};

// Returns a chunk, f32 [horizon, kActionDim], valid until the next call.
using Policy = std::function<std::span<const float>(const Observation&)>;

// The scripted expert as a policy: `horizon` steps rolled out in a copy of the world.
Policy expert_policy(int horizon = 16);

struct LoopOptions {
  int image_size = kImageSize;
  int execute = 0;            // actions executed of each chunk; 0: half of it, at least one
  bool blank_images = false;  // control: the policy gets grey images
  bool swap_prompts = false;  // control: the policy gets a prompt for another object
};

struct EpisodeResult {
  uint64_t seed = 0;
  Family family = Family::place;
  std::string prompt;
  bool success = false;
  int steps = 0;
  std::vector<double> policy_ms;  // one per policy call
};

// Called before every control step and once after the last; `policy_ms` is that of the latest call.
struct Frame {
  const Observation& observation;
  double policy_ms = 0;
  bool replanned = false;  // the policy was just asked
  bool finished = false;
  bool success = false;
};
using FrameSink = std::function<void(const Frame&)>;

EpisodeResult run_episode(uint64_t seed, const Policy& policy, const LoopOptions& options,
                          const FrameSink& sink = {});

// Successes out of n with the Wilson score interval at 95 %.
struct Rate {
  int successes = 0, episodes = 0;
  double rate() const { return episodes ? double(successes) / episodes : 0; }
  double low() const;
  double high() const;
};

struct Summary {
  Rate all;
  Rate family[kFamilies];
  double policy_ms_p50 = 0, policy_ms_p99 = 0;
  int policy_calls = 0;
};
Summary summarise(std::span<const EpisodeResult> results);
double percentile(std::vector<double> values, double share);

// {"episodes": …, "success_rate": …, "ci95": [low, high], "tasks": {family: {…}}, "policy_ms_p50": …};
// `extra` is appended verbatim before the closing brace (", \"key\": value").
std::string to_json(const Summary& summary, const std::string& extra = "");

}  // namespace flashrt::tabletop
