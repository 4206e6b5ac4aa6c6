// A tiny random policy with a tokenizer on disk, and an observation that fits it.
#pragma once

#include <gtest/gtest.h>

#include <unistd.h>
#include <cmath>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "io/policy_synth.h"
#include "runtime/policy.h"

namespace flashrt {

inline PolicyConfig tiny_policy_config(PolicyFamily family) {
  PolicyConfig c;
  c.family = family;
  c.vision = {.width = 24, .layers = 1, .mlp = 40, .heads = 2, .image_size = 28, .patch = 14};
  c.language = {.width = 32, .layers = 2, .mlp = 48, .heads = 2, .kv_heads = 1, .head_dim = 16};
  c.expert = {.width = 24, .layers = 2, .mlp = 40, .heads = 2, .kv_heads = 1, .head_dim = 16};
  c.vocab = 1024;
  c.horizon = 4;
  c.steps = 3;
  c.max_prompt_tokens = 64;
  c.embedding_scale = std::sqrt(double(c.language.width));
  c.cameras = {"exterior_camera_left", "wrist_camera_right_arm"};  // too long for a small string
  c.robot_state_dim = 6;
  c.robot_action_dim = 5;
  c.state_in_prompt = family == PolicyFamily::pi05;
  c.state_mode = c.action_mode = family == PolicyFamily::pi05 ? NormMode::quantile : NormMode::zscore;
  return c;
}

// The directory of a checkpoint written once per process.
inline std::string tiny_policy(PolicyFamily family) {
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / fmt::format("flashrt-{}-{}", name_of(family), getpid());
  if (!std::filesystem::exists(path)) {
    synthesize_policy(path, tiny_policy_config(family),
                      {.seed = 7, .tokenizer = FLASHRT_TEST_DATA "/tokenizer/gemma_like.json"});
  }
  return path;
}

struct TinyObservation {
  explicit TinyObservation(const PolicySession& session, int width = 40, int height = 30) {
    std::mt19937 dice(1);
    for (std::vector<uint8_t>& picture : pictures) {
      picture.resize(size_t(width * height * 3));
      for (uint8_t& v : picture) v = uint8_t(dice());
    }
    const char* names[] = {"exterior_camera_left", "wrist_camera_right_arm"};
    for (size_t i = 0; i < 2; ++i)
      cameras.push_back({.camera = names[i], .rgb = pictures[i].data(), .width = width, .height = height});
    for (int64_t i = 0; i < session.state_dim(); ++i) state.push_back(0.1f * float(i));
  }
  operator Observation() const {
    return {.cameras = cameras, .state = state, .prompt = prompt, .seed = seed};
  }

  std::array<std::vector<uint8_t>, 2> pictures;
  std::vector<CameraImage> cameras;
  std::vector<float> state;
  std::string prompt = "pick up the red block";
  uint64_t seed = 3;
};

}  // namespace flashrt
