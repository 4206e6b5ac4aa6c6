// The matrix product with everything that fuses into it.
#pragma once

#include "ops/activation.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace flashrt {

// y = x · wᵀ + b, accumulated in f32, rounded once. w [n, k] as in the checkpoint; x [m, ≥ k] (columns beyond
// k are padding); b [1, n], may be absent. y [m, n].
Tensor linear(Tensor x, Tensor w, Tensor b = {}, At at = At::current());

// The fused form of the op, composed in this order; every part but the product is optional:
//   x' = norm(x)                       operands norm_scale, norm_shift; absent: they are part of w and bias
//   y  = x' · wᵀ + bias
//   y  = activation(y)                 pairs halve the columns
//   y  = residual + gate · y           a shorter residual repeats down the rows
//   q, k, v = split(y); rope(q), append(rope(k)), append(v)   when rope.head_dim > 0: three results
//   sums of y                          a second result, f32 [⌈n/64⌉, 2·m]: Σy and Σy² of every row over each
//   64
//                                      columns, of the rounded values, pairs by row
// A norm whose input has such sums may get them as the operand `statistics`: a device then multiplies x
// itself and scales the product, y = (x · wᵀ)/σ; the definition does not need them.
struct LinearAttrs {
  NormAttrs norm{.kind = NormKind::none};
  Activation activation = Activation::none;
  RopeAttrs rope;
};

enum LinearOperand : int {
  kX,
  kW,
  kBias,
  kResidual,
  kGate,
  kNormScale,
  kNormShift,
  kTable,
  kPosition,
  kKCache,
  kVCache,
  kStatistics,
  kLinearOperands
};

inline constexpr int64_t kStatisticsColumns = 64;

extern const OpDef kLinearOp;

}  // namespace flashrt
