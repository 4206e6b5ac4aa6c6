// Softmax attention over cached keys and values.
#pragma once

#include "ops/record.h"

namespace flashrt {

struct AttentionAttrs {
  int32_t heads = 1, kv_heads = 1, head_dim = 0;
  int32_t segments = 1;   // rows of q, and keys, split in equal segments that see only themselves
  int32_t keys = 0;       // keys that exist, beside those counted by the `length` operand
  int32_t lead_rows = 0;  // the first rows of q see only the keys before the last (rows − lead_rows)
  int32_t causal = 0;     // row r of q sees keys ≤ keys − rows + r
  int32_t q_col = 0, k_col = 0, v_col = 0;  // first column of each in its operand (packed q | k | v)
  float scale = 0;                          // of the logits; 0: head_dim^-1/2
  int32_t window = 0;                       // each row sees at most this many of its last keys; 0: all
};

// out[r, h] = softmax_j(scale · q[r, h]·k[j, h']) v[j, h'], h' = h·kv_heads/heads, over the visible keys j
// below attrs.keys + *length (length i32 [1, 1], absent: 0). q [rows, heads·d]; k, v [capacity, kv_heads·d];
// out as q. f32 logits and softmax. (Vaswani et al. 2017; grouped heads: Ainslie et al. 2023)
Tensor attention(Tensor q, Tensor k, Tensor v, Tensor length, AttentionAttrs attrs, At at = At::current());

extern const OpDef kAttentionOp;  // operands q, k, v, length

// Number of keys that row r of its segment sees, given all the keys that exist.
constexpr int64_t visible_keys(const AttentionAttrs& attrs, int64_t r, int64_t rows, int64_t keys) {
  if (attrs.causal) return keys - rows + r + 1;
  return r < attrs.lead_rows ? keys - rows + attrs.lead_rows : keys;
}

// The first of them: keys before it are outside the row's window.
constexpr int64_t first_visible_key(const AttentionAttrs& attrs, int64_t visible) {
  return attrs.window > 0 && visible > attrs.window ? visible - attrs.window : 0;
}

}  // namespace flashrt
