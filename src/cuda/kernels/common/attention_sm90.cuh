// Pieces shared by the wgmma attention kernels: online softmax on accumulator fragments, remote stores,
// output rows. Fragment layout (wgmma.cuh): register 4g + 2h + e of thread t holds row 16·(warp % 4) + lane/4
// + 8h, column 8g + 2·(lane % 4) + e.
#pragma once
#include "cuda/kernels/common/attention_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/wgmma.cuh"

namespace flashrt {

constexpr float kLog2e = 1.4426950408889634f;

__device__ __forceinline__ int attention_keys(const AttentionParams& p) {
  const int keys = p.key_base + (p.length ? *p.length : 0);
  return max(0, min(keys, p.rows_k));
}

// What follows may not be scheduled before the non-negative x is known (ptxas hoists waits for wgmma over
// arithmetic that should run in their shadow; it does not cross a branch).
__device__ __forceinline__ void after(float x) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ge.f32 p, %0, 0f00000000;\n@p bra known;\nnanosleep.u32 1;\nknown:\n}\n" ::"f"(
          x)
      : "memory");
}

// Maximum and sum over the four lanes that hold one row.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Running softmax of the two rows of a thread. `top` is the reference of the exponent in units of log2: the
// row maximum, or up to 8 below it (results are exact for any reference; a lazy one saves most rescales of
// the output).
struct SoftmaxRows {
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.f, 0.f};  // this thread's columns only, until quad_sum

  // Replaces scores by weights 2^(c·s − top). Returns in `factor` what earlier outputs must be multiplied by;
  // true when any lane of the warp has a factor other than 1.
  template <int Count>
  __device__ __forceinline__ bool update(float (&s)[Count], float c, float (&factor)[2]) {
    float best[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int i = 0; i < Count; i += 4) {
      best[0] = fmaxf(best[0], fmaxf(s[i], s[i + 1]));
      best[1] = fmaxf(best[1], fmaxf(s[i + 2], s[i + 3]));
    }
    bool changed = false;
    float reference[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float tile = quad_max(best[h]) * c;
      factor[h] = 1.f;
      if (tile > top[h] + 8.f) {
        factor[h] = exp2_fast(top[h] - tile);
        top[h] = tile;
        sum[h] *= factor[h];
        changed = true;
      }
      reference[h] = top[h] == -INFINITY ? 0.f : top[h];
    }
#pragma unroll
    for (int i = 0; i < Count; i += 4) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        s[i + 2 * h] = exp2_fast(fmaf(s[i + 2 * h], c, -reference[h]));
        s[i + 2 * h + 1] = exp2_fast(fmaf(s[i + 2 * h + 1], c, -reference[h]));
        sum[h] += s[i + 2 * h] + s[i + 2 * h + 1];
      }
    }
    return __any_sync(0xffffffffu, changed);
  }
};

// Scores of columns at or beyond the row's limit become −∞. `column` is the key index of this thread's first
// column.
template <int Count>
__device__ __forceinline__ void mask_scores(float (&s)[Count], int column, const int (&limit)[2]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const int c = column + (i / 4) * 8 + (i & 1);
    if (c >= limit[(i >> 1) & 1]) s[i] = -INFINITY;
  }
}

// Weights as the A operand of the next product, 16 keys per entry.
template <int Count>
__device__ __forceinline__ void pack_weights(const float (&s)[Count], uint32_t (&p)[Count / 8][4]) {
#pragma unroll
  for (int k = 0; k < Count / 8; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) p[k][i] = pack2<__nv_bfloat16>(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
  }
}

// Stores 16 consecutive columns of one row held by a quad: this thread has columns 2q, 2q+1 (x) and 8+2q,
// 9+2q (y). Lanes swap halves so that each writes 8 bytes. Every lane of the warp must call it.
__device__ __forceinline__ void store_columns16(__nv_bfloat16* row, bool valid, uint32_t x, uint32_t y) {
  const int q = threadIdx.x & 3;
  const uint32_t other = __shfl_xor_sync(0xffffffffu, q & 1 ? x : y, 1);
  const uint2 value = q & 1 ? make_uint2(other, y) : make_uint2(x, other);
  if (valid) *reinterpret_cast<uint2*>(row + (q & 1 ? 6 + 2 * q : 2 * q)) = value;
}

// A 16-byte store to shared memory of another block of the cluster that completes, by bytes, on a barrier of
// that block.
__device__ __forceinline__ void st_async_b128(bool active, uint32_t addr, uint32_t bar, uint4 x) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"
      "@p st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];\n}\n" ::
          "r"(addr),
      "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w), "r"(bar), "r"(int(active))
      : "memory");
}

// Arrival without a memory fence: enough when what it orders are finished reads, or fenced barrier inits.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

// Descriptors of a 16-wide tile (32-byte rows, 32-byte swizzle, 8 rows make a 256-byte atom), as a 16-wide
// box leaves it: K-major one step of 16 k-values, or MN-major 16 n-values with the next 16 k-values at +512
// bytes.
__device__ __forceinline__ uint64_t descriptor_narrow(uint32_t smem) {
  return static_cast<uint64_t>((smem & 0x3ffff) >> 4) | 1ull << 16 | static_cast<uint64_t>(256 >> 4) << 32 |
         3ull << 62;
}
constexpr uint64_t kNarrowNextK = 512 >> 4;

}  // namespace flashrt
