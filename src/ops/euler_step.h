// One step of the flow's ordinary differential equation.
#pragma once

#include "ops/record.h"

namespace flashrt {

// x' = x + dt · v; x, v f32 [rows, n]. (Explicit Euler.)
Tensor euler_step(Tensor x, Tensor v, float dt, At at = At::current());

extern const OpDef kEulerStepOp;  // operands x, v; attributes: dt

}  // namespace flashrt
