// The end of one denoising step and the start of the next, fused.
#pragma once

#include "ops/norm.h"

namespace flashrt {

struct FlowStepAttrs {
  NormAttrs norm;
  float dt = 0;
};

// Composition of norm, linear, euler_step and linear, per row (only fusion records it):
//   v  = norm(hidden) · w_outᵀ + b_out       hidden [rows, width], w_out [actions, width]
//   x' = x + dt · v                          x f32 [rows, actions]
//   y  = x' · w_inᵀ + b_in                   w_in [width, actions]; absent after the last step
enum FlowStepOperand : int {
  kFlowHidden,
  kFlowNormScale,
  kFlowNormShift,
  kFlowOut,
  kFlowOutBias,
  kFlowX,
  kFlowIn,
  kFlowInBias,
  kFlowOperands
};
extern const OpDef kFlowStepOp;  // results x', y

}  // namespace flashrt
