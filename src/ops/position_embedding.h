// Learned positions added to the embedded tokens.
#pragma once

#include "ops/record.h"

namespace flashrt {

// y[r] = x[r] + table[*position + r]; x, y [rows, n], table [positions, n], position i32 [1, 1], absent: 0. A
// position outside the table gives NaN, as an index of `embedding` does. (Radford et al. 2019)
Tensor position_embedding(Tensor x, Tensor table, Tensor position, At at = At::current());

extern const OpDef kPositionEmbeddingOp;  // operands x, table, position

}  // namespace flashrt
