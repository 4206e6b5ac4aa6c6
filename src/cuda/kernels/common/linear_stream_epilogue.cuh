// Epilogue of a streaming linear: one warp adds the partial sums of a token pair in a fixed order, applies the
// f32 epilogue and rounds once.
#pragma once
#include "cuda/kernels/common/linear_stream_params.h"
#include "cuda/kernels/common/linear_stream_stage.cuh"
#include "cuda/kernels/common/mbarrier.cuh"

namespace flashrt {

__device__ __forceinline__ float stream_activate(float v, StreamActivation kind) {
  if (kind == StreamActivation::silu) return v / (1.f + __expf(-v));
  if (kind == StreamActivation::gelu_tanh) {
    // 0.5·(1 + tanh u) = 1 / (1 + exp(−2u)), u = √(2/π)·(v + 0.044715·v³)
    const float u = 0.7978845608f * v * fmaf(0.044715f * v, v, 1.f);
    return v / (1.f + __expf(-2.f * u));
  }
  return v;
}

__device__ __forceinline__ float bias_at(const LinearStreamParams& p, int column) {
  return p.bias != nullptr && column < p.n ? __ldg(p.bias + column) : 0.f;
}

__device__ __forceinline__ float2 sum_partials(const float2* partial, int sources, int stride) {
  float2 s = make_float2(0.f, 0.f);
#pragma unroll 8
  for (int i = 0; i < sources; ++i) {
    const float2 v = partial[i * stride];
    s.x += v.x;
    s.y += v.y;
  }
  return s;
}

// Columns `lo` and `hi` of tokens row and row + 1: lo[t], hi[t]. Partials of feature f are at partial[f].
template <int RowGroups>
__device__ __forceinline__ void finish_pair(const LinearStreamParams& p, int tile, int row, const float2* partial,
                                            int sources, int stride, Mbarrier* full, uint32_t phase) {
  constexpr int kHalf = 32 * RowGroups;
  const int lane = lane_id();
  const bool two = row + 1 < p.m;
  float stat[2] = {0.f, 0.f};
#pragma unroll
  for (int i = 0; i < RowGroups; ++i) {
    const int f = lane + 32 * i;
    switch (p.epilogue) {
      case StreamEpilogue::plain:
      case StreamEpilogue::residual: {
        const bool residual = p.epilogue == StreamEpilogue::residual;
        const int column[2] = {tile * 2 * kHalf + f, tile * 2 * kHalf + kHalf + f};
        float bias[2], gate[2], old[2][2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {  // requested before the partials are awaited
          const bool in = column[h] < p.n;
          bias[h] = bias_at(p, column[h]);
          gate[h] = residual && in && p.gate != nullptr ? __ldg(p.gate + column[h]) : 1.f;
#pragma unroll
          for (int t = 0; t < 2; ++t) {
            old[h][t] = 0.f;
            if (residual && in && (t == 0 || two)) {
              const auto* r = reinterpret_cast<const unsigned short*>(p.residual);
              old[h][t] = __uint_as_float(
                  static_cast<uint32_t>(__ldcg(r + static_cast<size_t>(row + t) * p.n + column[h])) << 16);
            }
          }
        }
        mbarrier_wait_cluster(full, phase);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float2 v = sum_partials(partial + f + h * kHalf, sources, stride);
          const float out[2] = {
              fmaf(gate[h], stream_activate(v.x + bias[h], p.activation), old[h][0]),
              fmaf(gate[h], stream_activate(v.y + bias[h], p.activation), old[h][1])};
#pragma unroll
          for (int t = 0; t < 2; ++t) {
            if (column[h] < p.n && (t == 0 || two)) {
              const __nv_bfloat16 rounded = __float2bfloat16_rn(out[t]);
              p.y[static_cast<size_t>(row + t) * p.n + column[h]] = rounded;
              const float r = __bfloat162float(rounded);
              stat[t] = fmaf(r, r, stat[t]);
            }
          }
        }
        break;
      }
      case StreamEpilogue::pair: {
        const int column = tile * kHalf + f, width = p.n / 2;
        const float bias_lo = bias_at(p, column), bias_hi = bias_at(p, width + column);
        mbarrier_wait_cluster(full, phase);
        const float2 lo = sum_partials(partial + f, sources, stride);
        const float2 hi = sum_partials(partial + f + kHalf, sources, stride);
        if (column < width) {
          __nv_bfloat16* y = p.y + static_cast<size_t>(row) * width + column;
          y[0] = __float2bfloat16_rn(stream_activate(lo.x + bias_lo, p.activation) * (hi.x + bias_hi));
          if (two) y[width] = __float2bfloat16_rn(stream_activate(lo.y + bias_lo, p.activation) * (hi.y + bias_hi));
        }
        break;
      }
      case StreamEpilogue::qkv: {
        const int half_dim = p.head_dim / 2, per_head = half_dim / kHalf;
        const int head = tile / per_head, angle = tile % per_head * kHalf + f;
        const int column = head * p.head_dim + angle;
        const int first = __ldcg(p.position);
        const bool rotate = p.rope != nullptr && head < p.q_heads + p.kv_heads;
        float2 cs[2] = {make_float2(1.f, 0.f), make_float2(1.f, 0.f)};
        if (rotate) {
#pragma unroll
          for (int t = 0; t < 2; ++t)
            if (t == 0 || two) cs[t] = __ldg(p.rope + static_cast<size_t>(first + row + t) * half_dim + angle);
        }
        const float bias_lo = bias_at(p, column), bias_hi = bias_at(p, column + half_dim);
        __nv_bfloat16* y;
        size_t width;
        if (head < p.q_heads) {
          width = static_cast<size_t>(p.q_heads) * p.head_dim;
          y = p.y + row * width + column;
        } else {
          width = static_cast<size_t>(p.kv_heads) * p.head_dim;
          const bool is_k = head < p.q_heads + p.kv_heads;
          y = (is_k ? p.k_cache : p.v_cache) + (first + row) * width + column -
              (p.q_heads + (is_k ? 0 : p.kv_heads)) * p.head_dim;
        }
        mbarrier_wait_cluster(full, phase);
        const float2 lo = sum_partials(partial + f, sources, stride);
        const float2 hi = sum_partials(partial + f + kHalf, sources, stride);
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          if (t == 1 && !two) break;
          const float a = (t == 0 ? lo.x : lo.y) + bias_lo, b = (t == 0 ? hi.x : hi.y) + bias_hi;
          y[t * width] = __float2bfloat16_rn(a * cs[t].x - b * cs[t].y);
          y[t * width + half_dim] = __float2bfloat16_rn(b * cs[t].x + a * cs[t].y);
        }
        break;
      }
    }
  }
  if (p.stat_out != nullptr) {
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const float s = warp_sum(stat[t]);
      if (lane == 0 && (t == 0 || two)) p.stat_out[static_cast<size_t>(row + t) * p.tiles + tile] = s;
    }
  }
}

}  // namespace flashrt
