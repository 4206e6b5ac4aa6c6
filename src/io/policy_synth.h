// Writes seeded random Pi0 or Pi0.5 checkpoints of any size in LeRobot's layout, for tests and measurements.
#pragma once

#include <cstdint>
#include <string>

#include "io/policy_config.h"

namespace flashrt {

struct SynthOptions {
  uint64_t seed = 0;
  DType dtype = DType::f32;  // of the weights: f32, bf16 or f16
  std::string tokenizer;     // a file to copy along, or empty
};

// The directory is created; its files are replaced. Linear weights are N(0, 1/in), so that activations keep
// their size at any depth; embeddings N(0, 0.02²), norms and biases near identity, adaRMS linears random too.
// Statistics have robot_state_dim and robot_action_dim values (or the padded sizes where those are 0).
void synthesize_policy(const std::string& directory, const PolicyConfig& config, const SynthOptions& options);

}  // namespace flashrt
