// A policy network in model space: built programs by shape, and the replay of recorded cases.
#pragma once

#include <map>
#include <memory>
#include <span>

#include "io/case_file.h"
#include "io/policy_checkpoint.h"
#include "models/pi0.h"
#include "runtime/backend.h"

namespace flashrt {

// Views of a checkpoint's tensors by canonical name; the checkpoint must outlive the programs.
WeightSource checkpoint_weights(const PolicyCheckpoint& checkpoint);

// Random weights of the given sizes, seeded: matrices N(0, 0.02), norm weights N(0, 0.02) around their
// identity. All are windows of one pool of values, so that any size costs the same memory; the result keeps
// the pool alive.
WeightSource random_policy_weights(const PolicyConfig& config, uint64_t seed);

class PolicyEngine {
 public:
  PolicyEngine(PolicyConfig config, WeightSource weights, std::shared_ptr<Backend> backend,
               RunnerOptions options = {})
      : config_(std::move(config)),
        weights_(std::move(weights)),
        backend_(std::move(backend)),
        options_(std::move(options)) {}

  // The program for a shape, built when first asked for.
  Runner& runner(const PolicyShape& shape);
  const PolicyConfig& config() const { return config_; }
  const Backend& backend() const { return *backend_; }

 private:
  PolicyConfig config_;
  WeightSource weights_;
  std::shared_ptr<Backend> backend_;
  RunnerOptions options_;
  std::map<std::array<int64_t, 5>, std::unique_ptr<Runner>> runners_;
};

// How a result compares with its reference: max |Δ|, ‖Δ‖/‖reference‖, and the cosine of both as vectors.
struct Comparison {
  double max_abs = 0, relative = 0, cosine = 0;
};
Comparison compare(std::span<const float> result, std::span<const float> reference);

// Replays a case: inputs as recorded, absent cameras dropped. Returns the actions, [horizon, action_dim].
std::vector<float> replay(PolicyEngine& engine, const PolicyCase& recorded);

// The runner that a case needs, with its inputs filled in.
Runner& load_case(PolicyEngine& engine, const PolicyCase& recorded);

}  // namespace flashrt
