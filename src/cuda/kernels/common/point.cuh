// The pointwise functions of activations, in f32.
#pragma once
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

// gelu: x/2 · (1 + tanh u) = x / (1 + exp(−2u)), u = √(2/π)·(x + 0.044715 x³).
__device__ __forceinline__ float point_function(PointFunction function, float x) {
  if (function == PointFunction::none) return x;
  const float argument =
      function == PointFunction::gelu ? 1.5957691216057308f * (x + 0.044715f * x * x * x) : x;
  return x / (1.f + expf(-argument));
}

}  // namespace flashrt
