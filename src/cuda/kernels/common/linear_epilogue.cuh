// Epilogue of the wgmma linear kernel: f32 accumulators [64 features × tokens] to 16-bit rows [tokens ×
// features]. A chunk of 64 tokens is transposed through a swizzled shared buffer, so that global accesses are
// 16-byte vectors.
#pragma once
#include "cuda/kernels/common/linear_schedule.cuh"
#include "cuda/kernels/common/tma.cuh"

namespace flashrt {

// x → x · sigmoid(2u) = x/2 · (1 + tanh u). The hardware's tanh is good to 2⁻¹¹ of 1, a sixth of what
// rounding the result to bf16 costs: the special function unit is what an epilogue of activations waits for.
__device__ __forceinline__ float times_sigmoid(float x, float u) {
  float t;
  asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(u));
  const float half = 0.5f * x;
  return __fmaf_rn(half, t, half);
}
template <LinearActivation kActivation>
__device__ __forceinline__ float activate(float x) {
  // 0.5·x·(1 + tanh(u)), u = √(2/π)·(x + 0.044715·x³)
  constexpr float kLinear = 0.7978845608f, kCubic = kLinear * 0.044715f;
  if constexpr (kActivation == LinearActivation::gelu_tanh)
    return times_sigmoid(x, x * __fmaf_rn(x * x, kCubic, kLinear));
  if constexpr (kActivation == LinearActivation::silu) return times_sigmoid(x, 0.5f * x);
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
__device__ __forceinline__ float2 ld_shared_f2(uint32_t addr) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(addr));
  return v;
}

// Which optional steps of the epilogue this launch has, in one register.
struct LinearSteps {
  enum : uint32_t {
    normalise = 1,
    bias = 2,
    gelu = 4,
    silu = 8,
    residual = 16,
    statistics = 32,
    rotary = 64
  };
  uint32_t bits;
  __device__ explicit LinearSteps(uint32_t b) : bits(b) {}
  __device__ explicit LinearSteps(const LinearParams& p) {
    bits = (p.row_stats ? normalise : 0) | (p.bias ? bias : 0) | (p.residual ? residual : 0) |
           (p.out_stats ? statistics : 0) | (p.rotary ? rotary : 0) |
           (p.activation == LinearActivation::gelu_tanh ? gelu : 0) |
           (p.activation == LinearActivation::silu ? silu : 0);
  }
  __device__ __forceinline__ bool has(uint32_t step) const { return (bits & step) != 0; }
};

// One warpgroup's view of one 64-row accumulator tile. A staged chunk is one tile of 128-byte rows (64
// features of a token) or, paired, tiles of 64-byte rows (32 features of one half), swizzled as the tensor
// maps of the output say.
template <class T, LinearRows kRows, int kChunkTokens, bool kOneChunk>
struct LinearOutput {
  static constexpr bool kPaired = kRows != LinearRows::plain;
  static constexpr int kPitch = kPaired ? 64 : 128;
  static constexpr int kHalves = kRows == LinearRows::heads ? 2 : 1;  // staged tiles

  const LinearParams& p;
  int thread, warp, lane;  // within the warpgroup
  int token0;              // of the tile
  int column, half;        // first output column, and the distance of the second staged tile's
  int kv;                  // heads: < 0 query, < kv_heads key, otherwise value
  int rotary_offset;       // heads: of this thread's pair within a row of the rotary table
  bool column_valid;
  float bias[2], gate[2];  // of accumulator rows lane/4 and lane/4 + 8 of this warp

  // row0: first (tile-ordered) weight row of the 64. Reads constants only: may run before the predecessor has
  // finished.
  __device__ __forceinline__ LinearOutput(const LinearParams& params, LinearSteps steps, int row0,
                                          int first_token)
      : p(params), token0(first_token) {
    thread = threadIdx.x & 127;
    lane = thread & 31;
    warp = thread >> 5;
    column_valid = row0 < p.n;
    half = 0;
    kv = -1;
    rotary_offset = 0;
    int feature, partner;
    if constexpr (kRows == LinearRows::plain) {
      column = row0;
      feature = row0 + 16 * warp + (lane >> 2);
      partner = feature + 8;
    } else if constexpr (kRows == LinearRows::pair) {
      column = row0 >> 1;
      feature = column + 8 * warp + (lane >> 2);
      partner = feature + (p.n >> 1);
    } else {
      const int head = fast_divide(row0, p.head_dim_magic), within = (row0 - head * p.head_dim) >> 1;
      half = p.head_dim >> 1;
      rotary_offset = within + 8 * warp + (lane >> 2);
      feature = head * p.head_dim + rotary_offset;
      partner = feature + half;
      kv = head - p.query_heads;
      column = within + (kv < 0 ? head : kv < p.kv_heads ? kv : kv - p.kv_heads) * p.head_dim;
    }
    const bool valid = column_valid && feature < p.n, partner_valid = column_valid && partner < p.n;
    const auto load = [&](const float* from, float(&to)[2], float otherwise) {
      to[0] = from && valid ? from[feature] : otherwise;
      to[1] = from && partner_valid ? from[partner] : otherwise;
    };
    load(steps.has(LinearSteps::bias) ? p.bias : nullptr, bias, 0.f);
    load(steps.has(LinearSteps::residual) ? p.gate : nullptr, gate, 1.f);
  }

  // Shared address of 16-byte vector v of token t of a staged tile: vectors are permuted so that both the
  // transposing stores (8 tokens, one vector) and row reads (one token, all vectors) are free of bank
  // conflicts.
  __device__ __forceinline__ static uint32_t unit(uint32_t tile, int t, int v) {
    return tile + t * kPitch + (kPaired ? v ^ ((t >> 1) & 3) : v ^ (t & 7)) * 16;
  }
  // Where this lane's row of the transposed 8 × 8 matrices of token group g goes.
  __device__ __forceinline__ uint32_t matrix_row(uint32_t buffer, int g) const {
    const int second = lane >> 3 & 1, t = g * 8 + (lane & 7);
    if constexpr (kRows == LinearRows::heads) return unit(buffer + second * kChunkTokens * 64, t, warp);
    return unit(buffer, t, kPaired ? warp : warp * 2 + second);
  }

  // Starts the copy of a chunk's residual (plain rows) into its staging buffer; groups [begin, end) of the
  // chunk.
  __device__ __forceinline__ void fetch_residual(uint32_t buffer, int chunk_token, int begin, int end) const {
    const int vector = thread & 7, c = column + 8 * vector;
    int r = token0 + chunk_token + begin * 8 + (thread >> 3);
    int source = r < p.residual_period ? r : r % p.residual_period;
#pragma unroll 1
    for (int t = begin * 8 + (thread >> 3); t < end * 8; t += 16) {
      const bool ok = r < p.m && c < p.n;
      const T* from = static_cast<const T*>(p.residual) + (ok ? source * p.residual_stride + c : 0);
      cp_async_16(unit(buffer, t, vector), from, ok);
      r += 16;
      source += 16;
      while (source >= p.residual_period) source -= p.residual_period;
    }
    cp_async_commit();
  }

  // Accumulators of 8 tokens: v = (row, token), (row, token + 1), (row + 8, token), (row + 8, token + 1).
  // scale = 1/σ of the two tokens; the bias, which may be zero, is added.
  __device__ __forceinline__ void normalise(float* v, const float2& scale) const {
    v[0] = __fmaf_rn(v[0], scale.x, bias[0]);
    v[1] = __fmaf_rn(v[1], scale.y, bias[0]);
    v[2] = __fmaf_rn(v[2], scale.x, bias[1]);
    v[3] = __fmaf_rn(v[3], scale.y, bias[1]);
  }
  __device__ __forceinline__ void add_bias(float* v) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += bias[i >> 1];
  }
  template <LinearActivation kActivation>
  __device__ __forceinline__ static void apply(float* v) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      v[e] = activate<kActivation>(v[e]);
      v[e + 2] = kRows == LinearRows::pair ? v[e + 2] : activate<kActivation>(v[e + 2]);
      if (kRows == LinearRows::pair) v[e] *= v[e + 2];
    }
  }
  __device__ __forceinline__ bool rotates(LinearSteps steps) const {
    return steps.has(LinearSteps::rotary) && kv < p.kv_heads;
  }
  // (cos, sin) of a token of the tile for this thread's pair.
  __device__ __forceinline__ float2 angle(int position, int token) const {
    const int row = min(token0 + token, p.m - 1);
    return reinterpret_cast<const float2*>(
        p.rotary)[static_cast<int64_t>(position + row) * half + rotary_offset];
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

  // One thread: groups [begin, end) of the staged chunk to global memory. Rows past m and columns past n are
  // clipped.
  template <bool kTail>
  __device__ __forceinline__ void store(uint32_t buffer, int chunk_token, int begin, int end, int groups,
                                        int position) const {
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const uint32_t tile = buffer + h * kChunkTokens * 64;
      const int x = column + h * half, row = token0 + chunk_token;
      if (!column_valid) continue;
      if (kRows == LinearRows::heads &&
          kv >= 0) {  // the caches have rows past m: a ragged group is left to store_ragged
        const CUtensorMap* map = kv < p.kv_heads ? &p.key_group : &p.value_group;
        for (int g = begin; g < end && row + 8 * g + 8 <= p.m; ++g)
          tma_store_2d(map, tile + g * 8 * kPitch, x, position + row + 8 * g);
      } else if (kOneChunk && p.split > 1) {
        const CUtensorMap* share = end - begin == p.split_groups ? &p.out_chunk : &p.out_tail;
        tma_store_2d(share, tile + begin * 8 * kPitch, x, row + 8 * begin);
      } else if (begin == 0 && end == groups) {
        tma_store_2d(kTail ? &p.out_tail : &p.out_chunk, tile, x, row);
      } else {
        for (int g = begin; g < end; ++g) tma_store_2d(&p.out_group, tile + g * 8 * kPitch, x, row + 8 * g);
      }
    }
    bulk_commit();
  }
  // All threads: the rows before m of the group of a cache that m cuts.
  __device__ __forceinline__ void store_ragged(uint32_t buffer, int chunk_token, int begin, int end,
                                               int position) const {
    const int g = (p.m - token0 - chunk_token) >> 3, t = g * 8 + (thread & 7), row = token0 + chunk_token + t;
    if (kv < 0 || !column_valid || g < begin || g >= end || row >= p.m || thread >= 64) return;
    const int vector = thread >> 3 & 3, h = thread >> 5;
    const uint4 v = ld_shared_16(unit(buffer + h * kChunkTokens * 64, t, vector));
    T* cache = static_cast<T*>(kv < p.kv_heads ? p.keys : p.values);
    *reinterpret_cast<uint4*>(cache + (position + row) * p.kv_stride + column + h * half + 8 * vector) = v;
  }

  // All threads: Σy and Σy² over the 64 columns of every staged token (8 lanes each), of the rounded values.
  // A thread has both sums of 8 columns of four tokens; lanes trade them until each has one sum of 64
  // columns.
  __device__ __forceinline__ void statistics(uint32_t buffer, int chunk_token, int begin, int end) const {
    const int vector = thread & 7, slot = column >> 6;
    const bool counts = column + 8 * vector < p.n;
#pragma unroll
    for (int part = 0; part < kChunkTokens; part += 64) {
      if (part >= 8 * end || part + 64 <= 8 * begin) continue;
      uint4 bits[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) bits[i] = ld_shared_16(unit(buffer, part + (thread >> 3) + 16 * i, vector));
      float sums[8];  // Σ, Σ² of every sixteenth token
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float v[8], sum = 0.f, squares = 0.f;
        unpack8<T>(bits[i], v);
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
          sum += v[j] + v[j + 1];
          squares += __fmaf_rn(v[j], v[j], v[j + 1] * v[j + 1]);
        }
        sums[2 * i] = counts ? sum : 0.f;
        sums[2 * i + 1] = counts ? squares : 0.f;
      }
#pragma unroll
      for (int half = 4; half > 0; half /= 2) {
        const bool upper = (vector & half) != 0;
#pragma unroll
        for (int j = 0; j < half; ++j) {
          const float given = __shfl_xor_sync(0xffffffffu, upper ? sums[j] : sums[j + half], half);
          sums[j] = (upper ? sums[j + half] : sums[j]) + given;
        }
      }
      const int t = part + (thread >> 3) + 16 * (vector >> 1), r = token0 + chunk_token + t;
      if (r < p.m && t >= 8 * begin && t < 8 * end && slot < p.out_stat_slots)
        p.out_stats[(static_cast<int64_t>(slot) * p.m + r) * 2 + (vector & 1)] = sums[0];
    }
  }
};

}  // namespace flashrt
