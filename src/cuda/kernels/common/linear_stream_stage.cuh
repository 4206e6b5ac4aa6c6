// Activations of a streaming linear: normalise rows on the way from global memory to a wgmma B operand
// [k-block of 64][rows][64] with 128-byte swizzle in shared memory.
#pragma once
#include "cuda/kernels/common/linear_stream_params.h"
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// vectors = [1 + norm_scale | norm_shift] of this block's columns; read-only data, so before the dependency.
__device__ __forceinline__ void stage_vectors(const LinearStreamParams& p, int first, int count, float* vectors,
                                              int thread, int threads) {
  for (int c = thread * 4; c < count; c += threads * 4) {
    float4 scale = make_float4(0.f, 0.f, 0.f, 0.f), shift = scale;
    if (first + c < p.k) {  // k is a multiple of 8
      scale = __ldg(reinterpret_cast<const float4*>(p.norm_scale + first + c));
      if (p.norm_shift != nullptr) shift = __ldg(reinterpret_cast<const float4*>(p.norm_shift + first + c));
    }
    *reinterpret_cast<float4*>(vectors + c) =
        make_float4(1.f + scale.x, 1.f + scale.y, 1.f + scale.z, 1.f + scale.w);
    if (p.norm_shift != nullptr) *reinterpret_cast<float4*>(vectors + count + c) = shift;
  }
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}

__device__ __forceinline__ float sum_squares(uint4 v) {
  const uint32_t w[4] = {v.x, v.y, v.z, v.w};
  float s = 0.f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = unpack2<__nv_bfloat16>(w[i]);
    s = fmaf(f.x, f.x, fmaf(f.y, f.y, s));
  }
  return s;
}

// This lane's share of Σx² of a row: the producer's partial sums, or the row itself.
__device__ __forceinline__ float lane_row_stat(const LinearStreamParams& p, int row) {
  float s = 0.f;
  if (p.row_stat != nullptr) {
    const float* stat = p.row_stat + static_cast<size_t>(row) * p.row_stat_slots;
    for (int i = lane_id(); i < p.row_stat_slots; i += 32) s += __ldcg(stat + i);
  } else {
    const uint4* x = reinterpret_cast<const uint4*>(p.x_rows + static_cast<size_t>(row) * p.k);
    for (int i = lane_id(); i < p.k / 8; i += 32) s += sum_squares(__ldcg(x + i));
  }
  return s;
}

__device__ __forceinline__ uint32_t normalise2(uint32_t x, float rstd, float2 scale, float2 shift) {
  const float2 f = unpack2<__nv_bfloat16>(x);
  return pack2<__nv_bfloat16>(fmaf(f.x * rstd, scale.x, shift.x), fmaf(f.y * rstd, scale.y, shift.y));
}

// A warp takes whole rows, Rows × Units loads of 256 columns in flight.
template <int N, int Units>
__device__ __forceinline__ void stage_rows(const LinearStreamParams& p, int first, int kb_count, uint8_t* xs,
                                           const float* vectors, int warp, int warps) {
  constexpr int Rows = 8 / Units;
  const int lane = lane_id(), units = (kb_count + 3) / 4;
  const bool own_stat = p.row_stat == nullptr && kb_count * 64 >= p.k && units <= Units;
  for (int row0 = warp; row0 < p.m; row0 += warps * Rows) {
    for (int unit0 = 0; unit0 < units; unit0 += Units) {
      uint4 x[Rows][Units];
      float rstd[Rows];
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        const int row = row0 + r * warps;
#pragma unroll
        for (int u = 0; u < Units; ++u) {
          const int c = (unit0 + u) * 256 + lane * 8;
          x[r][u] = make_uint4(0, 0, 0, 0);
          if (row < p.m && c < kb_count * 64 && first + c < p.k)
            x[r][u] = __ldcg(reinterpret_cast<const uint4*>(p.x_rows + static_cast<size_t>(row) * p.k + first + c));
        }
        rstd[r] = own_stat || row >= p.m ? 0.f : lane_row_stat(p, row);
      }
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        if (own_stat) {
#pragma unroll
          for (int u = 0; u < Units; ++u) rstd[r] += sum_squares(x[r][u]);
        }
        rstd[r] = rsqrtf(warp_sum(rstd[r]) / static_cast<float>(p.k) + p.eps);
      }
#pragma unroll
      for (int u = 0; u < Units; ++u) {
        const int c = (unit0 + u) * 256 + lane * 8;
        if (c >= kb_count * 64) continue;
        float4 scale[2], shift[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          scale[i] = *reinterpret_cast<const float4*>(vectors + c + 4 * i);
          shift[i] = make_float4(0.f, 0.f, 0.f, 0.f);
          if (p.norm_shift != nullptr)
            shift[i] = *reinterpret_cast<const float4*>(vectors + kb_count * 64 + c + 4 * i);
        }
#pragma unroll
        for (int r = 0; r < Rows; ++r) {
          const int row = row0 + r * warps;
          if (row >= p.m) continue;
          uint4 y;
          y.x = normalise2(x[r][u].x, rstd[r], {scale[0].x, scale[0].y}, {shift[0].x, shift[0].y});
          y.y = normalise2(x[r][u].y, rstd[r], {scale[0].z, scale[0].w}, {shift[0].z, shift[0].w});
          y.z = normalise2(x[r][u].z, rstd[r], {scale[1].x, scale[1].y}, {shift[1].x, shift[1].y});
          y.w = normalise2(x[r][u].w, rstd[r], {scale[1].z, scale[1].w}, {shift[1].z, shift[1].w});
          if (first + c >= p.k) y = make_uint4(0, 0, 0, 0);
          uint8_t* block = xs + (c / 64) * (N * 128) + row * 128;
          *reinterpret_cast<uint4*>(block + (((c / 8) ^ row) & 7) * 16) = y;
        }
      }
    }
  }
}

template <int N>
__device__ __forceinline__ void stage_normalised(const LinearStreamParams& p, int first, int kb_count, uint8_t* xs,
                                                 const float* vectors, int warp, int warps) {
  if (kb_count <= 4)
    stage_rows<N, 1>(p, first, kb_count, xs, vectors, warp, warps);
  else if (kb_count <= 8)
    stage_rows<N, 2>(p, first, kb_count, xs, vectors, warp, warps);
  else
    stage_rows<N, 4>(p, first, kb_count, xs, vectors, warp, warps);
}

}  // namespace flashrt
