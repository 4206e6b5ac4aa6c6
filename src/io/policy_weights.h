// The tensors of a Pi0 or Pi0.5 network under one set of names, whatever the checkpoint calls them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/policy_config.h"

namespace flashrt {

struct WeightSpec {
  std::string name;            // canonical
  std::vector<int64_t> shape;  // linear weights are [out, in], row-major
};

// Every tensor that the network reads, in the order it reads them. `expert.` is the action expert.
std::vector<WeightSpec> policy_weights(const PolicyConfig& config);

struct StoredName {
  std::string canonical;  // empty: a tensor that inference has no use for
  bool fallback = false;  // used only when no other tensor has the canonical name
};

// What the tensor `stored` is; nullopt when the name follows no layout we know.
std::optional<StoredName> canonical_weight_name(std::string_view stored, PolicyFamily family);

// A pi0.5 expert, told by its names alone.
bool has_adaptive_norms(std::string_view stored);

// The name LeRobot stores a canonical tensor under.
std::string lerobot_weight_name(std::string_view canonical);

}  // namespace flashrt
