// GPT-2 (Radford et al. 2019): learned positions, LayerNorm, one GELU MLP a block.
#pragma once

#include "models/language_model.h"

namespace flashrt {

void record_gpt2(Program& program, const LmConfig& config, const WeightSource& source, const LmShape& shape);

}  // namespace flashrt
