// Plain elements of packed weights, for products that no implementation computes with the codes themselves.
#pragma once

#include "ops/record.h"

namespace flashrt {

// y [n, k] of the program's type: the values of packed w [n, k], each rounded once.
Tensor unpack(Tensor w, At at = At::current());

// Puts an unpack line before every linear of packed weights that the device does not take as it is. Weights
// that the device does not unpack either, and those of other ops, are held as plain elements instead. Returns
// the lines inserted.
int unpack_weights(Program& program, const std::function<bool(const Program&, const Line&)>& supported);

extern const OpDef kUnpackOp;  // operand w

}  // namespace flashrt
