// A policy session: cameras, state and words in, robot actions out.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/image_resize.h"
#include "io/prompt.h"
#include "io/robot.h"
#include "runtime/policy_engine.h"

namespace flashrt {

struct PolicyOptions {
  std::string robot = "generic";   // see robot_names()
  std::string tokenizer;           // a path; empty: the checkpoint's own
  int64_t horizon = 0, steps = 0;  // 0: the checkpoint's
  int64_t text_bucket = 16;        // prompts are padded to a multiple of this many tokens: one program each
};

// One camera's picture: RGB, `stride` bytes between rows (0: 3·width).
struct CameraImage {
  std::string_view camera;  // the robot's key or the policy's slot
  const uint8_t* rgb = nullptr;
  int width = 0, height = 0;
};

struct Observation {
  std::span<const CameraImage> cameras;  // absent ones are left out
  std::span<const float> state;          // as the robot reports it
  std::string_view prompt;
  uint64_t seed = 0;             // of the noise
  std::span<const float> noise;  // [horizon, action_dim of the network]; empty: drawn from `seed`
};

// Milliseconds of host wall time; NaN where a program has no such stage.
struct PolicyTimes {
  float preprocess = 0, vision = 0, prefix = 0, action = 0, post = 0, total = 0;
};

struct ActionChunk {
  std::span<const float> actions;  // [horizon, dim] in the robot's units; valid until the next call
  int64_t horizon = 0, dim = 0;
  std::span<const float> raw;  // [horizon, network's action_dim], model space
  PolicyTimes times;
};

class PolicySession {
 public:
  // `checkpoint` moves in. Throws Error(input) when it lacks a tokenizer, or the robot does not fit it.
  PolicySession(PolicyCheckpoint checkpoint, std::shared_ptr<Backend> backend, PolicyOptions options = {},
                RunnerOptions runner_options = {});

  // One call. Throws Error(input) for an observation that does not fit (unknown camera, wrong state length,
  // values that are not finite, empty prompt) and Error(device) when the network's actions are not finite:
  // they never leave. Programs are built on the first call of a number of cameras and a prompt bucket; after
  // that a call allocates nothing but what the tokenizer needs when the text changes.
  ActionChunk act(const Observation& observation);

  // Builds the program of a bucket ahead of time.
  void prepare(int64_t views, int64_t text_tokens);

  const PolicyConfig& config() const { return engine_.config(); }
  const Robot& robot() const { return robot_; }
  int64_t state_dim() const { return robot_.state_dim; }    // that act() expects
  int64_t action_dim() const { return robot_.action_dim; }  // that act() returns
  PolicyEngine& engine() { return engine_; }

 private:
  PolicyShape shape_for(int64_t views, int64_t text_tokens) const;
  void take_state(std::span<const float> state);
  void take_images(Runner& runner, const PolicyShape& shape);
  size_t slot_of(std::string_view camera) const;

  std::unique_ptr<PolicyCheckpoint> checkpoint_;
  PolicyOptions options_;
  PolicyEngine engine_;
  Robot robot_;
  std::optional<PromptEncoder> prompt_;
  std::string prompt_text_;
  std::vector<std::unique_ptr<ResizePlan>> resize_;  // by slot
  std::vector<const CameraImage*> present_;          // by slot, of the current call
  std::vector<float> state_, echoed_, padded_, raw_, scaled_, actions_;
};

}  // namespace flashrt
