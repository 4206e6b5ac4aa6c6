// Rotary position embedding, and the rotation fused with the split of q | k | v and the append to the cache.
#pragma once

#include "ops/record.h"

namespace flashrt {

struct RopeAttrs {
  int32_t heads = 0, kv_heads = 0, head_dim = 0;  // of a q | k | v row; `rope` alone uses heads and head_dim
};

// The table [positions, head_dim] of f32 pairs (cos, sin) of position · theta^(−2i/head_dim), i < head_dim/2,
// computed in double. (Su et al. 2021)
Tensor rope_table(Program& program, int64_t positions, int64_t head_dim, double theta);

// Rotates pairs (x_i, x_{i+d/2}) of every head (the half-split form). x [rows, heads·head_dim]. Row r has
// position r + *position (i32 [1, 1], absent: 0), which selects the table's row.
Tensor rope(Tensor x, Tensor table, Tensor position, int64_t head_dim, At at = At::current());

extern const OpDef kRopeOp;  // operands x, table, position

// Fused: qkv [rows, (heads + 2·kv_heads)·head_dim] → rotated q, k and v appended to their caches.
extern const OpDef
    kRopeAppendOp;  // operands qkv, table, position, k cache, v cache; results q, k cache', v cache'

// The definition for one head's row.
void rotate_head(const float* x, const float* table_row, int64_t head_dim, float* y);

}  // namespace flashrt
