// The activations of gated products.
#pragma once

namespace flashrt {

// silu: v·sigmoid(v). gelu (tanh form): 0.5·v·(1 + tanh u) = v·sigmoid(2u), u = √(2/π)·(v + 0.044715·v³)
// (Hendrycks & Gimpel 2016).
__device__ __forceinline__ float gate_activation(float v, bool gelu) {
  const float u = gelu ? 1.5957691216f * v * fmaf(0.044715f * v, v, 1.f) : v;
  return __fdividef(v, 1.f + __expf(-u));
}

}  // namespace flashrt
