// Sums and maxima over a warp or a block.
#pragma once

namespace flashrt {

__device__ __forceinline__ float warp_total(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// The sum over the block, in every thread. `partial` holds 32 floats of shared memory and may be reused at
// once.
__device__ __forceinline__ float block_total(float v, float* partial) {
  v = warp_total(v);
  const int warps = (blockDim.x + 31) / 32;
  if (warps == 1) return v;
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  const float sum = warp_total(int(threadIdx.x % 32) < warps ? partial[threadIdx.x % 32] : 0.f);
  __syncthreads();
  return sum;
}

}  // namespace flashrt
