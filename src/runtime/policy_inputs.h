// Inputs of a policy program filled without a camera or a tokenizer.
#pragma once

#include "runtime/policy_engine.h"

namespace flashrt {

// Random pixels, token ids, state and noise of a seed; the prompt fills the program's room for it.
void fill_random_inputs(Runner& runner, const PolicyConfig& config, uint64_t seed);

}  // namespace flashrt
