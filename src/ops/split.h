// Columns of a matrix as separate matrices.
#pragma once

#include "ops/record.h"

namespace flashrt {

// x [rows, Σ widths] → one [rows, width] each; at most 4.
std::vector<Tensor> split(Tensor x, std::span<const int64_t> widths, At at = At::current());

extern const OpDef kSplitOp;  // operand x; the results' widths say the rest

}  // namespace flashrt
