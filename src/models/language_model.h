// Decoder language models: what every family records, and which file records it.
#pragma once

#include "io/lm_config.h"
#include "models/weights.h"

namespace flashrt {

// The shapes a program is built for.
struct LmShape {
  int64_t rows = 1;      // tokens of one run
  int64_t capacity = 0;  // positions that the cache holds; the caller keeps position + rows within
  bool logits = true;    // false: only the cache is filled
};

// Records one step of the configuration's family. Inputs: `token_ids` i32 [1, rows], `position` i32 [1, 1] =
// tokens that the cache holds already. State: the keys and values of every layer. Output, when asked for:
// `logits` f32 [rows, vocab]. Rows behind a prompt's last token are harmless: they write only positions that
// later runs write again. Throws Error(input) when the model cannot have so many positions.
void record_language_model(Program& program, const LmConfig& config, const WeightSource& source,
                           const LmShape& shape);

}  // namespace flashrt
