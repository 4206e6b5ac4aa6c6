// What a linear case is made of; the fused line and, in the tests, its composition are recorded from the same
// spec.
#pragma once

#include "cases/cases.h"
#include "ops/linear.h"

namespace flashrt {

struct LinearSpec {
  int64_t m = 1, n = 1, k = 1;  // w is [n, k]
  int64_t x_cols = 0;           // width of x when it has padding columns
  bool bias = false;
  Activation activation = Activation::none;
  int64_t period = 0;  // rows of the residual; 0: none
  bool gate = false;
  NormKind norm = NormKind::none;
  RopeAttrs rope;                                // head_dim > 0: n = (heads + 2·kv_heads)·head_dim
  int position = -1;                             // on the device; −1: absent
  int64_t capacity = 0;                          // rows of the caches
  DType x_type = DType::u8, y_type = DType::u8;  // u8: the program's type
  bool folded = false;                           // w is a constant instead of a stored matrix
  bool exact = false;                            // w is f32
  bool table = false;                            // the residual is a stored matrix

  std::string name() const;
};

struct LinearOperandsOf {
  Tensor x, w, bias, residual, gate, norm_scale, norm_shift, table, position, k_cache, v_cache, statistics;
};

LinearOperandsOf linear_operands(CaseRecorder& c, const LinearSpec& spec);
// The fused line; returns its results.
std::vector<Tensor> record_linear(Program& p, const LinearSpec& spec, const LinearOperandsOf& o);
// Fused forms on ragged shapes, the ones that tests take apart.
std::vector<LinearSpec> linear_specs();

}  // namespace flashrt
