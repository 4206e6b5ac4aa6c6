// A Pi0 or Pi0.5 directory as LeRobot, openpi (PyTorch) or transformers write it: config, statistics,
// weights.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/policy_config.h"
#include "io/safetensors.h"

namespace flashrt {

struct CheckpointOptions {
  std::string asset;  // openpi: which assets/<id>/norm_stats.json, when there are several
};

struct PolicyCheckpoint {
  std::string path;  // of the directory
  PolicyConfig config;
  TensorStore store;                                 // keeps the files mapped
  std::map<std::string, const TensorView*> weights;  // canonical name → a tensor of `store`
  std::vector<std::string> unused;                   // stored tensors that inference never reads
  std::vector<std::string> unknown;                  // stored tensors of names we do not know
  std::vector<std::string> warnings;                 // for people: what was assumed
  std::string tokenizer;                             // path, or empty when the directory has none
  std::string statistics;                            // path the statistics came from, or empty

  const TensorView* find(std::string_view canonical) const;
  // For messages: "file: stored name".
  std::string origin(const TensorView& tensor) const;
};

// Throws Error(input). Tensors that are missing, misshapen or of a type that is not a weight's are one error
// that names them all.
PolicyCheckpoint load_policy_checkpoint(const std::string& directory, const CheckpointOptions& options = {});

}  // namespace flashrt
