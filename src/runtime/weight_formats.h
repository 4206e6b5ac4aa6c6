// Weights in packed formats: as a checkpoint stores them, or encoded while it is loaded.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/lm_checkpoint.h"
#include "models/weights.h"
#include "quant/packed.h"

namespace flashrt {

Weight packed_weight(const std::string& name, std::shared_ptr<const quant::Packed> packed);

// The weights of a checkpoint; with a format's name (of --weights) its matrices encoded.
WeightSource lm_weights(const LmCheckpoint& checkpoint, std::string_view format = "");

// fp8, int8, int4 or nvfp4; throws Error(input) naming the choices.
quant::Format parse_weight_format(std::string_view text);

// Whether a tensor is a matrix of a layer that `--weights` and `flashrt quantize` encode: those of attention
// and MLP. Embeddings, the output matrix, norms and routers stay as they are.
bool is_encoded(const LmConfig& config, std::string_view name, const Weight& weight);

quant::Packed encode_weight(quant::Format format, const Weight& weight);

// The same weights with these matrices encoded, each when it is first asked for; it is kept as long as the
// source. Throws Error(input) where one is packed in a format already.
WeightSource encoded_weights(WeightSource plain, const LmConfig& config, quant::Format format);

}  // namespace flashrt
