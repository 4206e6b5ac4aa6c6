// Attention of one token over its cache, fused with all that stands between it and the q | k | v product.
#pragma once

#include "ops/attention.h"
#include "ops/rope.h"

namespace flashrt {

struct AttentionStepAttrs {
  int32_t heads = 1, kv_heads = 1, head_dim = 0;
  int32_t window = 0;
  float scale = 0;  // of the logits; 0: head_dim^-1/2
  float eps = 0;    // of the heads' norms
};

// Composition of split, rms_norm per head of q and of k (each when it has a weight), rope, append and
// attention of one row at *position (only fusion records it):
//   q, k, v = split(qkv);  cache'[*position] = rope(norm(k)), v
//   out[h] = softmax_j(scale · rope(norm(q))[h]·k'[j]) v'[j] over the keys j ≤ *position, the last `window`
//   of them
enum AttentionStepOperand : int {
  kStepQkv,
  kStepTable,
  kStepPosition,
  kStepKCache,
  kStepVCache,
  kStepQNorm,
  kStepKNorm,
  kStepOperands
};
extern const OpDef kAttentionStepOp;  // results out, k cache', v cache'

}  // namespace flashrt
