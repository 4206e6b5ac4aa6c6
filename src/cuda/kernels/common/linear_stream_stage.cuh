// Activations of a streaming linear: normalise rows on the way from global memory to a wgmma B operand
// [k-block of 64][rows][64] with 128-byte swizzle in shared memory. Short code on purpose: every instruction
// runs once per launch, on the critical path.
#pragma once
#include "cuda/kernels/common/linear_stream_params.h"
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// vectors = [1 + norm_scale | norm_shift] of `count` columns from `first`; constants, so before the
// dependency.
__device__ __forceinline__ void stage_vectors(const LinearStreamParams& p, int first, int count,
                                              float* vectors, int thread, int threads) {
#pragma unroll 1
  for (int c = thread * 4; c < count; c += threads * 4) {
    float4 scale = make_float4(0.f, 0.f, 0.f, 0.f), shift = scale;
    if (first + c < p.k) {  // k is a multiple of 8
      scale = __ldg(reinterpret_cast<const float4*>(p.norm_scale + first + c));
      if (p.norm_shift != nullptr) shift = __ldg(reinterpret_cast<const float4*>(p.norm_shift + first + c));
    }
    *reinterpret_cast<float4*>(vectors + c) =
        make_float4(1.f + scale.x, 1.f + scale.y, 1.f + scale.z, 1.f + scale.w);
    *reinterpret_cast<float4*>(vectors + count + c) = shift;
  }
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}

__device__ __forceinline__ float sum_squares(uint4 v, float s) {
  const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = unpack2<__nv_bfloat16>(w[i]);
    s = fmaf(f.x, f.x, fmaf(f.y, f.y, s));
  }
  return s;
}

__device__ __forceinline__ uint32_t normalise2(uint32_t x, float rstd, float sx, float sy, float bx,
                                               float by) {
  const float2 f = unpack2<__nv_bfloat16>(x);
  return pack2<__nv_bfloat16>(fmaf(f.x * rstd, sx, bx), fmaf(f.y * rstd, sy, by));
}

// rstd[row] of all rows, once per block: from the producer's sums (neighbouring lanes take neighbouring rows,
// some lanes per row share the slots), or from the rows themselves (slow: x is read twice). Every block reads
// the same few lines at the same moment, so as seldom as possible.
template <int Warps, int SlotLanes>
__device__ __forceinline__ void row_statistics(const LinearStreamParams& p, float* rstd, int warp) {
  const int lane = lane_id();
  if (p.row_stat != nullptr) {
    constexpr int kRows = 32 / SlotLanes, kLoads = 16 / SlotLanes;
    const int row = warp * kRows + lane % kRows;
    if (warp * kRows >= p.m) return;
    float s = 0.f;
#pragma unroll 1
    for (int first = lane / kRows; first < p.row_stat_slots; first += 16) {
      float v[kLoads];
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int slot = first + j * SlotLanes;
        v[j] = row < p.m && slot < p.row_stat_slots ? __ldcg(p.row_stat + (slot * p.m + row) * 2 + 1) : 0.f;
      }
#pragma unroll
      for (int step = kLoads / 2; step > 0; step /= 2) {
#pragma unroll
        for (int j = 0; j < step; ++j) v[j] += v[j + step];
      }
      s += v[0];
    }
    __syncwarp();
#pragma unroll
    for (int o = kRows; o < 32; o *= 2) s += __shfl_xor_sync(0xffffffffu, s, o);
    if (lane < kRows) rstd[row] = rsqrt_approx(fmaf(s, p.inv_k, p.eps));
  } else {
#pragma unroll 1
    for (int row = warp; row < p.m; row += Warps) {
      const __nv_bfloat16* x = p.x_rows + static_cast<size_t>(row) * p.k;
      float s = 0.f;
#pragma unroll 4
      for (int c = lane * 8; c < p.k; c += 256)
        s = sum_squares(__ldcg(reinterpret_cast<const uint4*>(x + c)), s);
      s = warp_sum(s);
      if (lane == 0) rstd[row] = rsqrt_approx(fmaf(s, p.inv_k, p.eps));
    }
  }
}

// A warp takes one block of 256 columns (a unit) of every (Warps / units)-th row, 8 rows in flight.
// vectors = [64 row statistics | 1 + scale | shift]; named barrier 3 is used.
template <int N, int Warps>
__device__ __forceinline__ void stage_normalised(const LinearStreamParams& p, int first, int kb_count,
                                                 uint8_t* xs, float* vectors, int warp) {
  constexpr int kBatch = N <= 16 ? 5 : 8;
  const int lane = lane_id(), count = kb_count * 64, limit = min(count, p.k - first);
  const int units = (count + 255) >> 8;
  const int shift = units > 2 ? 2 : units > 1 ? 1 : 0, step = Warps >> shift;
  float* rstd = vectors;
  vectors += 64;
  bool known = false;
#pragma unroll 1
  for (int unit = warp & ((1 << shift) - 1); unit < units || !known; unit += 1 << shift) {
    const int c = unit * 256 + lane * 8;
    uint8_t* block = xs + (c >> 6) * (N * 128);
#pragma unroll 1
    for (int row0 = warp >> shift; row0 < p.m || !known; row0 += step * kBatch) {
      const __nv_bfloat16* src = p.x_rows + static_cast<size_t>(row0) * p.k + first + c;
      const size_t stride = static_cast<size_t>(step) * p.k;
      uint4 x[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        x[i] = make_uint4(0, 0, 0, 0);  // columns beyond k: x = 0, 1 + scale = 1 and shift = 0 give zeros
        if (row0 + i * step < p.m && c < limit) x[i] = __ldcg(reinterpret_cast<const uint4*>(src));
        src += stride;
      }
      if (!known) {
        row_statistics<Warps, (N <= 16 ? 2 : 1)>(p, rstd, warp);
        named_barrier_sync(3, Warps * 32);
        known = true;
      }
      const float* v = vectors + min(c, count - 8);
      const float4 s0 = *reinterpret_cast<const float4*>(v), s1 = *reinterpret_cast<const float4*>(v + 4);
      const float4 b0 = *reinterpret_cast<const float4*>(v + count),
                   b1 = *reinterpret_cast<const float4*>(v + count + 4);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int row = row0 + i * step;
        if (row >= p.m) break;
        const float r = rstd[row];
        uint4 y;
        y.x = normalise2(x[i].x, r, s0.x, s0.y, b0.x, b0.y);
        y.y = normalise2(x[i].y, r, s0.z, s0.w, b0.z, b0.w);
        y.z = normalise2(x[i].z, r, s1.x, s1.y, b1.x, b1.y);
        y.w = normalise2(x[i].w, r, s1.z, s1.w, b1.z, b1.w);
        if (c < count) *reinterpret_cast<uint4*>(block + row * 128 + (((c >> 3) ^ row) & 7) * 16) = y;
      }
    }
  }
}

}  // namespace flashrt
