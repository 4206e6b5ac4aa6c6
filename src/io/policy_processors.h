// LeRobot's policy_preprocessor.json and policy_postprocessor.json, and where other layouts keep statistics.
#pragma once

#include <string>
#include <vector>

#include "io/policy_config.h"
#include "io/safetensors.h"

namespace flashrt {

struct ProcessorResult {
  std::string statistics;  // path the statistics came from, or empty
  std::vector<std::string> warnings;
};

// Fills the statistics of `config`, and what else the processors decide (prompt length, renames, relative
// actions).
ProcessorResult read_lerobot_processors(const std::string& directory, const TensorStore& store,
                                        PolicyConfig& config);
ProcessorResult read_openpi_assets(const std::string& directory, const std::string& asset,
                                   PolicyConfig& config);
ProcessorResult read_transformers_processor(const std::string& directory, PolicyConfig& config);

}  // namespace flashrt
