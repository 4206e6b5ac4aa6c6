// The first of the largest logits: every block takes a part, the last to finish joins them.
#include <cmath>
#include <cstdint>

#include "cuda/kernels/common/next_token_params.h"
#include "cuda/kernels/common/pdl.cuh"

namespace flashrt {
namespace {

using Part = NextTokenParams::Part;

__device__ __forceinline__ Part join(const Part& a, const Part& b) {
  const bool first = a.top > b.top || (a.top == b.top && a.at < b.at);
  const float top = first ? a.top : b.top;
  const float scale_a = a.top == top ? 1.f : expf(a.top - top),
              scale_b = b.top == top ? 1.f : expf(b.top - top);
  return {top, a.sum * scale_a + b.sum * scale_b, first ? a.at : b.at, a.failed | b.failed};
}

__device__ __forceinline__ Part over_warp(Part v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    v = join(v, {__shfl_xor_sync(0xffffffffu, v.top, offset), __shfl_xor_sync(0xffffffffu, v.sum, offset),
                 __shfl_xor_sync(0xffffffffu, v.at, offset), __shfl_xor_sync(0xffffffffu, v.failed, offset)});
  }
  return v;
}

__device__ __forceinline__ Part nothing() { return {-INFINITY, 0.f, 0x7fffffff, 0}; }

}  // namespace

// Up to 1,024 blocks of 256 threads.
extern "C" __global__ void __launch_bounds__(256) next_token(const __grid_constant__ NextTokenParams p) {
  __shared__ Part warps[8];
  __shared__ bool last;
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  pdl_launch();
  pdl_wait();
  Part mine = nothing();
  for (int i = int(blockIdx.x * blockDim.x + threadIdx.x); i < p.count; i += int(gridDim.x * blockDim.x)) {
    const float v = p.logits[i];
    mine = join(mine, {v, 1.f, i, isnan(v) || v == INFINITY});
  }
  const auto over_block = [&](Part v) {
    v = over_warp(v);
    if (lane == 0) warps[warp] = v;
    __syncthreads();
    return over_warp(lane < 8 ? warps[lane] : nothing());
  };
  mine = over_block(mine);
  if (threadIdx.x == 0) {
    p.parts[blockIdx.x] = mine;
    __threadfence();
    last = atomicAdd(p.arrived, 1) == int(gridDim.x) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  Part all = nothing();
  for (int i = int(threadIdx.x); i < int(gridDim.x); i += int(blockDim.x)) {
    const volatile Part& part = p.parts[i];
    all = join(all, {part.top, part.sum, part.at, part.failed});
  }
  __syncthreads();
  all = over_block(all);
  if (threadIdx.x != 0) return;
  const int best = all.failed ? 0 : min(all.at, p.count - 1);
  *p.token = all.failed ? -1 : best;
  *p.log_probability = -logf(all.sum);
  *p.ids = best;
  *p.position += 1;
  *p.arrived = 0;
}

}  // namespace flashrt
