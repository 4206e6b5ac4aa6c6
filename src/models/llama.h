// Decoder language models that are one block with switches: Llama, Mistral, Qwen2, Qwen3, Gemma.
#pragma once

#include "models/language_model.h"

namespace flashrt {

// As record_language_model.
void record_llama(Program& program, const LmConfig& config, const WeightSource& source, const LmShape& shape);

// The table [positions, head_dim] of (cos, sin) pairs under the configuration's scaling.
std::vector<float> lm_rope_table(const RopeRule& rule, int64_t positions, int64_t head_dim);

}  // namespace flashrt
