// Launch parameters of the flow-matching step kernel; plain data, shared by host and device code.
#pragma once
#include <cuda_bf16.h>

namespace flashrt {

// Per token t: v = w_out · norm(hidden[t]) + b_out;  state[t] += dt·v;  out[t] = w_in · state[t] + b_in.
struct FlowStepParams {
  int tokens, width;            // width: a multiple of 8, at most 1024
  const __nv_bfloat16* hidden;  // [tokens, width], or null: no update, only the projection of state
  const float* norm_scale;      // [width]: x·rsqrt(mean(x²) + eps)·(1 + norm_scale) + norm_shift
  const float* norm_shift;      // [width] or null
  float eps, dt;
  const __nv_bfloat16* w_out;  // [32, width]
  const float* b_out;          // [32] or null
  const float* state;          // [tokens, 32]
  float* next_state;           // [tokens, 32], may alias state; unused without `hidden`
  const __nv_bfloat16* w_in;   // [width, 32]
  const float* b_in;           // [width] or null
  __nv_bfloat16* out;          // [tokens, width], or null after the last step
  float* stat_out;             // [tokens, 4] Σout² and three zeros, or null: the next layer's row statistic
};

}  // namespace flashrt
