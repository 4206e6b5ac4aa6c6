// Arithmetic of the decoder stack: one instruction or a few each.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// An 8×8 fragment of 16-bit values, transposed.
__device__ __forceinline__ uint32_t transpose8(uint32_t v) {
  uint32_t r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
  return r;
}
__device__ __forceinline__ float exp2_approx(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ float rsqrt_fast(float v) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ float activate(float v, bool silu) {
  const float u = silu ? v : 1.5957691216f * v * fmaf(0.044715f * v, v, 1.f);
  return __fdividef(v, 1.f + __expf(-u));
}
__device__ __forceinline__ float round_bf16(float v) { return __bfloat162float(__float2bfloat16_rn(v)); }

}  // namespace flashrt
