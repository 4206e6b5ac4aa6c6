// Decoder language models that are one block with switches: Llama, Mistral, Qwen2, Qwen3, Gemma.
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

// Records one step. Inputs: `token_ids` i32 [1, rows], `position` i32 [1, 1] = tokens that the cache holds
// already. State: the keys and values of every layer. Output, when asked for: `logits` f32 [rows, vocab].
// Rows behind a prompt's last token are harmless: they write only positions that later runs write again.
void record_llama(Program& program, const LmConfig& config, const WeightSource& source, const LmShape& shape);

// The table [positions, head_dim] of (cos, sin) pairs under the configuration's scaling.
std::vector<float> lm_rope_table(const RopeRule& rule, int64_t positions, int64_t head_dim);

}  // namespace flashrt
