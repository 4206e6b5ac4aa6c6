// Matrices stacked along rows.
#pragma once

#include "ops/record.h"

namespace flashrt {

// [a; b; …]: equal widths and types. A producer whose result is only used here writes into place: no copy is
// left.
Tensor concat(std::vector<Tensor> parts, At at = At::current());

extern const OpDef kConcatOp;

}  // namespace flashrt
