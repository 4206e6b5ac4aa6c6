// What a checkpoint's configuration says of its quantised matrices.
#pragma once

#include <cstdint>
#include <string>

#include "io/json.h"

namespace flashrt {

struct QuantConfig {
  // Who wrote it; each stores its tensors under its own names.
  enum class Method { none, gptq, awq, compressed_tensors, modelopt, fp8_blocks };
  Method method = Method::none;
  int64_t group = 128;    // of integers: columns per scale; -1: all
  int64_t bits = 4;       // of integers
  bool zero_plus = true;  // gptq: a stored zero point is one too small (all but checkpoint_format gptq_v2)
};

std::string_view name_of(QuantConfig::Method method);

// Reads the object `quantization_config` of a config.json, or the `quantization` of an hf_quant_config.json.
// Throws Error(input) for a method, width or layout that is not read.
QuantConfig read_quant_config(const JsonNode& node);
QuantConfig read_hf_quant_config(const JsonNode& root);

}  // namespace flashrt
