// Launch parameters of the matrix-vector kernels (1 … 4 rows); plain data, shared by host and device code.
#pragma once
#include <cstdint>

#include "cuda/kernels/common/row_params.h"

namespace flashrt {

// y = residual + gate · activation(rstd · (x·(1 + norm_scale)) · wᵀ + bias). Work is counted in units of two
// rows of w: (2u, 2u + 1), or a pair's (gate u, up u). A block takes every gridDim.x-th unit and streams it
// through a ring in shared memory, in chunks of `chunk_steps` steps of columns; a step is what one warp
// multiplies at once.
struct LinearGemvParams {
  const uint8_t* weights;
  int64_t row_bytes;       // of a row of w as stored, a multiple of 16
  const float* row_scale;  // [n] multiplies the product, or null
  const void* x;           // [m, ≥ k]
  int64_t x_stride;        // elements, a multiple of 8
  int m, n, k;
  // geometry, filled by plan_linear_gemv
  int units, steps, chunks, chunk_steps, chunk_columns, chunk_bytes;
  int warps_per_unit, groups;                       // 1, 2, 4 or 8 of the 8 multiplying warps share a unit
  int stages, slots;                                // of the ring of each such group, of all
  int stage_bytes, x_at, partials_at, barriers_at;  // in shared memory
  float inv_k;
  // the rest of the problem
  const float* norm_scale;  // [k], or null: no norm
  float eps;
  const float* bias;     // [n] or null
  const float* gate;     // [columns of y] or null
  const void* residual;  // as y, of the activations' type, or null; may alias y
  int64_t residual_stride;
  PointFunction function;
  void* y;
  int64_t y_stride;
  bool y_f32;  // else the activations' type
  // Experts: unit u belongs to the (u / expert_units)-th chosen expert, or (for `down`) chunk c to the c-th.
  const float* router;  // [rows, experts] logits from which the experts are chosen, or null
  int* chosen;          // [rows, used] written where router is given, else read
  float* shares;        // [rows, used] their probabilities
  // Weights of a later kernel, brought into L2 behind this one's: the memory stays busy while the chain hands
  // over.
  const uint8_t* ahead[2];  // null: none
  int64_t ahead_bytes;      // of each
  int experts, used, expert_units, expert_rows;
  bool normalise;
};

}  // namespace flashrt
