// A mixture of experts: each row goes through the few gated MLPs that its router likes best.
#pragma once

#include "ops/activation.h"

namespace flashrt {

struct ExpertsAttrs {
  int32_t used = 1;       // experts per row
  int32_t normalise = 1;  // their probabilities are scaled to a sum of 1
  Activation activation = Activation::swiglu;
};

// y[r] = Σ_e p_e · down_e · act(gate_e · x[r], up_e · x[r]) over the `used` experts with the largest p =
// softmax(router[r]), the first of equal ones. x [rows, n]; router f32 [rows, experts]; gate_up [experts·2m,
// n], expert after expert, gate over up; down [experts·n, m]; both of the checkpoint. Router and sum in f32.
// (Shazeer et al. 2017; Jiang et al. 2024)
Tensor experts(Tensor x, Tensor router, Tensor gate_up, Tensor down, ExpertsAttrs attrs,
               At at = At::current());

extern const OpDef kExpertsOp;  // operands x, router, gate_up, down

}  // namespace flashrt
