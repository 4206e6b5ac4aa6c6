// GPT-2's part of io/lm_config: its own names for the sizes and for the tensors.
#pragma once

#include "io/lm_config.h"

namespace flashrt {

LmConfig read_gpt2_config(const JsonNode& config);
std::vector<LmWeightSpec> gpt2_weight_specs(const LmConfig& config);

}  // namespace flashrt
