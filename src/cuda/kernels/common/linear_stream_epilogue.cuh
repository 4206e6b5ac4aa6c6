// Epilogue of a streaming linear: one warp adds the partial sums of a token pair in a fixed order, applies
// the f32 epilogue and rounds once.
#pragma once
#include "cuda/kernels/common/activation.cuh"
#include "cuda/kernels/common/linear_stream_params.h"
#include "cuda/kernels/common/linear_stream_stage.cuh"
#include "cuda/kernels/common/mbarrier.cuh"

namespace flashrt {

__device__ __forceinline__ float stream_activate(float v, StreamActivation kind) {
  if (kind == StreamActivation::none) return v;
  return gate_activation(v, kind == StreamActivation::gelu_tanh);
}

__device__ __forceinline__ float bias_at(const LinearStreamParams& p, int column) {
  return p.bias != nullptr && column < p.n ? __ldg(p.bias + column) : 0.f;
}

// Where the partial sums of the tokens arrive: source s has feature f of pair q, token t at
// first[s·stride + (q·features + f)·2 + t].
struct Partials {
  const float* first;
  int stride, sources;
  Mbarrier* full;
  uint32_t phase;

  __device__ __forceinline__ void wait() const { mbarrier_wait(full, phase); }
  __device__ __forceinline__ float sum(int at) const {
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < sources) v[i] = first[i * stride + at];
#pragma unroll
    for (int i = 1; i < 8; ++i)
      if (i < sources) v[0] += v[i];
    return v[0];
  }
};

// One warp's unit of work: 32 columns (and, for pair and qkv, the 32 that belong to them) of one token. What
// it needs from memory is requested before the partial sums are awaited.
template <StreamEpilogue Mode, int Half>
struct FinishUnit {
  static constexpr bool kPaired = Mode == StreamEpilogue::pair || Mode == StreamEpilogue::qkv;
  static constexpr int kUnits = (kPaired ? Half : 2 * Half) / 32;  // per token

  int row, feature, at;
  bool valid, live;  // there is such a token; and such a column
  float bias[2], gate, old;
  float2 angle;
  __nv_bfloat16* y;

  // unit = (pair of this block · 2 + token) · kUnits + block of 32 columns
  __device__ __forceinline__ void request(const LinearStreamParams& p, int tile, int unit, int units,
                                          int rank) {
    const int token = unit / kUnits;  // kUnits is a power of two
    feature = unit % kUnits * 32 + lane_id();
    row = 2 * (((token >> 1) << p.split_shift) + rank) + (token & 1);
    at = ((token >> 1) * 2 * Half + feature) * 2 + (token & 1);
    valid = live = unit < units && row < p.m;
    request_at(p, tile);
  }

  // The same for a given row, feature and live.
  __device__ __forceinline__ void request_at(const LinearStreamParams& p, int tile) {
    if (!live) return;
    if constexpr (Mode == StreamEpilogue::plain || Mode == StreamEpilogue::residual) {
      const int column = tile * 2 * Half + feature;
      live = column < p.n;
      if (!live) return;
      const size_t offset = static_cast<size_t>(row) * p.n + column;
      y = p.y + offset;
      bias[0] = bias_at(p, column);
      if constexpr (Mode == StreamEpilogue::residual) {
        gate = p.gate != nullptr ? __ldg(p.gate + column) : 1.f;
        old = __uint_as_float(
            static_cast<uint32_t>(__ldcg(reinterpret_cast<const unsigned short*>(p.residual) + offset))
            << 16);
      }
    } else if constexpr (Mode == StreamEpilogue::pair) {
      const int column = tile * Half + feature, width = p.n / 2;
      live = column < width;
      if (!live) return;
      y = p.y + static_cast<size_t>(row) * width + column;
      bias[0] = bias_at(p, column), bias[1] = bias_at(p, width + column);
    } else {
      const int half_dim = p.head_dim / 2, first = __ldcg(p.position);
      const int head = tile >> p.tiles_per_head_shift;
      const int i = (tile - (head << p.tiles_per_head_shift)) * Half + feature;
      const bool is_q = head < p.q_heads, is_k = !is_q && head < p.q_heads + p.kv_heads;
      const int local = is_q ? head : head - p.q_heads - (is_k ? 0 : p.kv_heads);
      const int width = (is_q ? p.q_heads : p.kv_heads) * p.head_dim;
      y = (is_q ? p.y + static_cast<size_t>(row) * width
                : (is_k ? p.k_cache : p.v_cache) + static_cast<size_t>(first + row) * width) +
          local * p.head_dim + i;
      angle = make_float2(1.f, 0.f);
      if (p.rope != nullptr && (is_q || is_k))
        angle = __ldg(p.rope + static_cast<size_t>(first + row) * half_dim + i);
      bias[0] = bias_at(p, head * p.head_dim + i), bias[1] = bias_at(p, head * p.head_dim + i + half_dim);
    }
  }

  // Returns the rounded value of a residual output.
  __device__ __forceinline__ float finish(const LinearStreamParams& p, const Partials& partials) {
    return live ? finish_values(p, partials.sum(at), kPaired ? partials.sum(at + 2 * Half) : 0.f) : 0.f;
  }

  // Residual: what this lane wrote of the row in the tile's 64 columns; a warp has one row.
  __device__ __forceinline__ void store_sums(const LinearStreamParams& p, int tile, float a, float b) {
    if (p.stat_out == nullptr || !valid) return;
    const float sum = warp_sum(a + b), squares = warp_sum(fmaf(a, a, b * b));
    if (lane_id() == 0) reinterpret_cast<float2*>(p.stat_out)[tile * p.m + row] = make_float2(sum, squares);
  }

  __device__ __forceinline__ float finish_values(const LinearStreamParams& p, float lo, float hi) {
    lo += bias[0];
    if constexpr (Mode == StreamEpilogue::plain) {
      *y = __float2bfloat16_rn(stream_activate(lo, p.activation));
    } else if constexpr (Mode == StreamEpilogue::residual) {
      const __nv_bfloat16 v = __float2bfloat16_rn(fmaf(gate, stream_activate(lo, p.activation), old));
      *y = v;
      return __bfloat162float(v);
    } else {
      hi += bias[1];
      if constexpr (Mode == StreamEpilogue::pair) {
        *y = __float2bfloat16_rn(stream_activate(lo, p.activation) * hi);
      } else {
        y[0] = __float2bfloat16_rn(lo * angle.x - hi * angle.y);
        y[p.head_dim / 2] = __float2bfloat16_rn(hi * angle.x + lo * angle.y);
      }
    }
    return 0.f;
  }
};

}  // namespace flashrt
