// Rows of a table by index.
#pragma once

#include "ops/record.h"

namespace flashrt {

// y[r] = scale · table[ids[r]]; ids i32 [1, n], table [vocabulary, width], y [n, width]. An index outside the
// table gives NaN, which the caller's finiteness check reports.
Tensor embedding(Tensor ids, Tensor table, float scale = 1.f, At at = At::current());

extern const OpDef kEmbeddingOp;  // operands ids, table; attributes: the scale

}  // namespace flashrt
