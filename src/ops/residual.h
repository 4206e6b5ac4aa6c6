// The residual stream's addition.
#pragma once

#include "ops/record.h"

namespace flashrt {

// out[r, c] = x[r % x.rows, c] + gate[c] · y[r, c]; gate [1, n] is 1 when absent. A shorter x repeats down
// the rows (a table of position embeddings, one per image).
Tensor residual(Tensor x, Tensor y, Tensor gate = {}, At at = At::current());

extern const OpDef kResidualOp;  // operands x, y, gate

}  // namespace flashrt
