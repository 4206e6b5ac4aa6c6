// Epilogue of the wgmma linear kernel: f32 accumulators [64 features × tokens] to 16-bit rows [tokens ×
// features]. A chunk of 64 tokens is transposed through a swizzled shared buffer, so that global accesses are
// 16-byte vectors.
#pragma once
#include "cuda/kernels/common/linear_params.h"
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// x · sigmoid(y); exact to a few f32 ulp.
__device__ __forceinline__ float times_sigmoid(float x, float y) {
  float e;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(y * -1.4426950408889634f));
  return __fdividef(x, 1.f + e);
}
template <LinearActivation kActivation>
__device__ __forceinline__ float activate(float x) {
  // 0.5·x·(1 + tanh(u)) = x·sigmoid(2u), u = √(2/π)·(x + 0.044715·x³)
  if constexpr (kActivation == LinearActivation::gelu_tanh)
    return times_sigmoid(x, x * __fmaf_rn(x * x, 2.f * 0.7978845608f * 0.044715f, 2.f * 0.7978845608f));
  if constexpr (kActivation == LinearActivation::silu) return times_sigmoid(x, x);
  return x;
}

__device__ __forceinline__ void cp_async_16(uint32_t dst, const void* src, bool valid) {
  const int bytes = valid ? 16 : 0;  // the rest is zero-filled
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
__device__ __forceinline__ uint4 ld_shared_16(uint32_t addr) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(addr));
  return v;
}

// One warpgroup's view of one 64-row accumulator tile.
template <class T, LinearRows kRows>
struct LinearOutput {
  static constexpr int kVectors =
      kRows == LinearRows::pair ? 4 : 8;  // 16-byte vectors in a token's staged row
  static constexpr int kPitch = 16 * kVectors;

  const LinearParams& p;
  int thread, warp, lane;  // within the warpgroup
  int token0;              // of the tile
  int slot;                // of the output statistics
  int position;
  int feature[2];  // weight rows of accumulator rows lane/4 and lane/4 + 8 of this warp
  bool valid[2];
  float bias[2], gate[2], column_sum[2];
  T* row;  // output of token `token0` at this thread's vector of a staged row
  int64_t stride;
  bool column_valid;
  bool rotate;
  const float2* rotary;  // of token `token0`
  const T* residual;

  // row0: first (tile-ordered) weight row of the 64.
  __device__ __forceinline__ LinearOutput(const LinearParams& params, int row0, int first_token, int pos)
      : p(params), token0(first_token), position(pos) {
    thread = threadIdx.x & 127;
    lane = thread & 31;
    warp = thread >> 5;
    const int vector = thread % kVectors;
    slot = row0 >> 6;
    stride = p.out_stride;
    rotate = false;
    rotary = nullptr;
    residual = nullptr;
    if constexpr (kRows == LinearRows::plain) {
      feature[0] = row0 + 16 * warp + (lane >> 2);
      feature[1] = feature[0] + 8;
      const int column = row0 + 8 * vector;
      column_valid = column < p.n;
      row = static_cast<T*>(p.out) + column;
      residual = static_cast<const T*>(p.residual) + column;
    } else if constexpr (kRows == LinearRows::pair) {
      feature[0] = (row0 >> 1) + 8 * warp + (lane >> 2);
      feature[1] = feature[0] + (p.n >> 1);
      const int column = (row0 >> 1) + 8 * vector;
      column_valid = column < (p.n >> 1);
      row = static_cast<T*>(p.out) + column;
    } else {
      const int head = row0 / p.head_dim, half = p.head_dim >> 1, within = (row0 - head * p.head_dim) >> 1;
      feature[0] = head * p.head_dim + within + 8 * warp + (lane >> 2);
      feature[1] = feature[0] + half;
      column_valid = row0 < p.n;
      const int column = (vector >> 2) * half + within + 8 * (vector & 3);
      const int kv = head - p.query_heads;
      rotate = p.rotary != nullptr && kv < p.kv_heads;
      rotary = reinterpret_cast<const float2*>(p.rotary) + static_cast<int64_t>(position + token0) * half +
               within + 8 * warp + (lane >> 2);
      if (kv < 0) {
        row = static_cast<T*>(p.out) + head * p.head_dim + column;
      } else {
        const bool value = kv >= p.kv_heads;
        stride = p.kv_stride;
        row = static_cast<T*>(value ? p.values : p.keys) + position * stride +
              (value ? kv - p.kv_heads : kv) * p.head_dim + column;
      }
    }
    row += token0 * stride;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      valid[h] = feature[h] < p.n;
      bias[h] = p.bias && valid[h] ? p.bias[feature[h]] : 0.f;
      gate[h] = p.gate && valid[h] ? p.gate[feature[h]] : 1.f;
      column_sum[h] = p.column_sum && valid[h] ? p.column_sum[feature[h]] : 0.f;
    }
  }

  // Shared address of vector v of token t (of a chunk): the 16-byte units are permuted so that both the
  // transposing stores (8 tokens, one vector) and the row reads (one token, all vectors) are free of bank
  // conflicts.
  __device__ __forceinline__ static uint32_t unit(uint32_t buffer, int t, int v) {
    const int swizzled = kVectors == 8 ? v ^ (t & 7) : v ^ ((t >> 1) & 3);
    return buffer + t * kPitch + swizzled * 16;
  }

  // Starts the copy of a chunk's residual into its staging buffer.
  __device__ __forceinline__ void fetch_residual(uint32_t buffer, int chunk_token, int tokens) const {
    for (int t = thread / kVectors; t < tokens; t += 128 / kVectors) {
      const int r = token0 + chunk_token + t;
      const bool ok = r < p.m && column_valid;
      const int source = r < p.residual_period ? r : r % p.residual_period;
      cp_async_16(unit(buffer, t, thread % kVectors), ok ? residual + source * p.residual_stride : p.residual,
                  ok);
    }
    cp_async_commit();
  }

  // Accumulators of 8 tokens: v = (row, token), (row, token + 1), (row + 8, token), (row + 8, token + 1).
  // scale = (rstd, rstd·mean) of the two tokens.
  __device__ __forceinline__ void normalise(float* v, const float4& scale) const {
    v[0] = v[0] * scale.x - scale.y * column_sum[0];
    v[1] = v[1] * scale.z - scale.w * column_sum[0];
    v[2] = v[2] * scale.x - scale.y * column_sum[1];
    v[3] = v[3] * scale.z - scale.w * column_sum[1];
  }
  __device__ __forceinline__ void add_bias(float* v) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += bias[i >> 1];
  }
  template <LinearActivation kActivation>
  __device__ __forceinline__ static void apply(float* v) {
    if constexpr (kRows == LinearRows::pair) {
      v[0] = activate<kActivation>(v[0]) * v[2];
      v[1] = activate<kActivation>(v[1]) * v[3];
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = activate<kActivation>(v[i]);
    }
  }
  // (x, y) -> (x·cos − y·sin, y·cos + x·sin)
  __device__ __forceinline__ static void turn(float* v, const float2 (&angle)[2]) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float x = v[e], y = v[e + 2];
      v[e] = x * angle[e].x - y * angle[e].y;
      v[e + 2] = y * angle[e].x + x * angle[e].y;
    }
  }
  // residual: the two packed pairs of the same places.
  __device__ __forceinline__ void add_residual(float* v, const uint32_t (&residual_pairs)[2]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float2 x = unpack2<T>(residual_pairs[h]);
      v[2 * h] = x.x + gate[h] * v[2 * h];
      v[2 * h + 1] = x.y + gate[h] * v[2 * h + 1];
    }
  }

  // The staged chunk to global memory, with the statistics of its rows.
  __device__ __forceinline__ void store(uint32_t buffer, int chunk_token, int tokens) const {
    for (int t = thread / kVectors; t < tokens; t += 128 / kVectors) {
      const int r = token0 + chunk_token + t;
      const uint4 v = ld_shared_16(unit(buffer, t, thread % kVectors));
      const bool ok = r < p.m && column_valid;
      if (ok) *reinterpret_cast<uint4*>(row + (chunk_token + t) * stride) = v;
      if constexpr (kRows == LinearRows::plain) {
        if (p.out_stats) store_statistics(v, r, ok);
      }
    }
  }

  // tokens is a multiple of 8 and a warp covers 4 of them, so its lanes agree on the loop above.
  __device__ __forceinline__ void store_statistics(const uint4& v, int r, bool ok) const {
    float sum = 0.f, squares = 0.f;
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 f = unpack2<T>(words[i]);
      sum += f.x + f.y;
      squares += f.x * f.x + f.y * f.y;
    }
    if (!ok) sum = squares = 0.f;
#pragma unroll
    for (int d = 1; d < 8; d *= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, d);
      squares += __shfl_xor_sync(0xffffffffu, squares, d);
    }
    if (thread % 8 == 0 && r < p.m && slot < p.out_stat_slots)
      reinterpret_cast<float2*>(p.out_stats)[static_cast<int64_t>(r) * p.out_stat_slots + slot] =
          make_float2(sum, squares);
  }
};

}  // namespace flashrt
