// Launch parameters of the portable mixture of experts; plain data, shared by host and device code.
#pragma once
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

struct ExpertsParams {
  Source x, gate_up, down;        // [rows, width], [experts·2·hidden, width], [experts·width, hidden]
  const float* router;            // [rows, experts]
  int* chosen;                    // [rows, used]
  float *shares, *hidden_values;  // [rows, used], [rows, used, hidden]
  Target y;
  int rows, width, hidden, experts, used;
  bool normalise;
  PointFunction function;
};

}  // namespace flashrt
