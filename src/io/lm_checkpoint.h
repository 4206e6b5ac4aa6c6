// A language model's directory as Hugging Face writes it: configurations, weights, tokenizer.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/lm_config.h"
#include "io/quant_config.h"
#include "io/safetensors.h"
#include "io/tokenizer.h"
#include "quant/packed.h"

namespace flashrt {

struct LmCheckpoint {
  std::string path;  // of the directory
  LmConfig config;
  LmGeneration generation;  // of generation_config.json; without it the end tokens of config.json
  TensorStore store;        // keeps the files mapped
  std::vector<std::string> warnings;
  QuantConfig quant;
  std::map<std::string, std::shared_ptr<const quant::Packed>> packed;  // the matrices stored packed, by name
};

// Throws Error(input). Tensors that are missing, misshapen or of a type that is not a weight's are one error
// that names them all.
LmCheckpoint load_lm_checkpoint(const std::string& directory);

// Throws Error(input) when the tokenizer makes ids that the embedding has no row for. The opposite is common:
// vocabularies are padded.
void require_vocabulary(const LmCheckpoint& checkpoint, const Tokenizer& tokenizer);

}  // namespace flashrt
