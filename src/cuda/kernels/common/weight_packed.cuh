// One step of a tile of packed weights, 16 rows × 128 columns, times one row of x or at most 8. Codes become
// bf16 operands of m16n8k16 by masks and shifts alone: their bits stand for numbers that are a power of two
// too small (integers and small floats are subnormal bf16, which the multiplier takes as they are), and x is
// that much larger. Zeros and scales of groups are applied to the sums, in f32.
#pragma once
#include "cuda/kernels/common/mma_sync.cuh"
#include "cuda/kernels/common/packed_params.h"

namespace flashrt {

// x is multiplied with 2^64 (exact in bf16), and what a sum is multiplied with makes up for it and for the
// codes' exponents: 2^120 for E4M3, 2^133 for integers (of rows g + 8 of int4: 2^4 less), 2^126 for E2M1.
constexpr uint32_t kPackedXFactor = 0x5f805f80u;  // 2^64, twice
constexpr float kPackedSumFactor = 0x1p-69f;      // Σx · 2^64 · 2^-133, which zeros are multiplied with

// Products go to two sums in turn, so that one does not wait for the other.
using PackedSums = float[2][4];

__device__ __forceinline__ uint32_t shared_4(uint32_t address) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ uint2 shared_8(uint32_t address) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address));
  return v;
}
__device__ __forceinline__ uint32_t multiply_bf16x2(uint32_t a, uint32_t b) {
  uint32_t v;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
  return v;
}
// (a & b) | c as one instruction: the compiler would rather take two that hold a constant each.
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t v;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(v) : "r"(a), "r"(b), "r"(c));
  return v;
}
__device__ __forceinline__ float upper_half(uint32_t bits) { return __uint_as_float(bits & 0xffff0000u); }

// Four E4M3 bytes: (row g, row g + 8) of one column, of the next.
__device__ __forceinline__ void decode_fp8(uint32_t word, uint32_t& low, uint32_t& high) {
  low = and_or(word << 4, 0x07f007f0u, word << 8 & 0x80008000u);
  high = and_or(word >> 4, 0x07f007f0u, word & 0x80008000u);
}
// Four bytes, each plus 128.
__device__ __forceinline__ void decode_int8(uint32_t word, uint32_t& low, uint32_t& high) {
  low = word & 0x00ff00ffu;
  high = __byte_perm(word, 0, 0x4341);
}
// Eight nibbles; those of row g + 8 are 16 times larger.
__device__ __forceinline__ void decode_int4(uint32_t word, uint32_t (&a)[4]) {
  a[0] = word & 0x000f000fu;
  a[1] = word & 0x00f000f0u;
  a[2] = word >> 8 & 0x000f000fu;
  a[3] = word >> 8 & 0x00f000f0u;
}
// Eight E2M1 codes, see e2m1_place.
__device__ __forceinline__ void decode_e2m1(uint32_t word, uint32_t (&a)[4]) {
  constexpr uint32_t kMask = 0x81c081c0u;
  a[0] = word & kMask;
  a[1] = word << 6 & kMask;
  a[2] = __funnelshift_r(word, word, 6) & kMask;
  a[3] = and_or(word << 4, 0x81808180u, word >> 4 & 0x00400040u);
}

// What the sums of row g + 8·upper are multiplied with beside the weight's own scale. Several rows of x meet
// nvfp4's codes after they took their scale (times 2^117).
constexpr float packed_row_factor(PackedKind kind, bool one, int upper) {
  switch (kind) {
    case PackedKind::fp8: return 0x1p56f;
    case PackedKind::int8: return 0x1p69f;
    case PackedKind::nvfp4: return one ? 0x1p62f : 0x1p-55f;
    default: return upper ? 0x1p65f : 0x1p69f;
  }
}
// Columns of x whose sum a step needs, none: 0.
constexpr int packed_sum_columns(PackedKind kind) {
  return kind == PackedKind::int4 ? 128 : kind == PackedKind::int4_fine ? 32 : 0;
}

// acc += w · x over one step. One row: lane 4 g + t holds columns 0, 1 of the operation's eight in acc[·][0,
// 1], and only column 0, in lanes t = 0, is meant; nvfp4: the row's result is the sum over all columns.
template <PackedKind kKind, bool kOne>
struct PackedStep {
  uint32_t step;  // shared addresses: of the step's first byte,
  uint32_t x[2];  // of this lane's part of x in the first and the second 64 columns, or of zeros,
  uint32_t sums;  // of Σx of the step's groups, for the first of this lane's rows of x
  int lane;
  bool bf16_scales;

  __device__ __forceinline__ void load_x(int group, uint32_t (&b)[8]) const {
    const uint4 first = ld_shared_16(x[group]), second = ld_shared_16(x[group] + 64);
    b[0] = first.x, b[1] = first.y, b[2] = first.z, b[3] = first.w;
    b[4] = second.x, b[5] = second.y, b[6] = second.z, b[7] = second.w;
  }

  __device__ __forceinline__ void run_wide(PackedSums& acc) const {
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      uint32_t b[8];
      load_x(group, b);
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const uint4 bits = ld_shared_16(step + group * 1024 + part * 512 + lane * 16);
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          uint32_t a[4];
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            if constexpr (kKind == PackedKind::fp8)
              decode_fp8(words[2 * i + h], a[2 * h], a[2 * h + 1]);
            else
              decode_int8(words[2 * i + h], a[2 * h], a[2 * h + 1]);
          }
          const int j = 2 * part + i;
          mma_16816<__nv_bfloat16>(acc[j % 2], a, b[2 * j], b[2 * j + 1]);
        }
      }
    }
  }

  __device__ __forceinline__ float half_scale(uint32_t bits) const {
    return bf16_scales ? __uint_as_float(bits << 16)
                       : __half2float(__ushort_as_half(uint16_t(bits & 0xffffu)));
  }
  // Group q's sums: Σ code · x − zero · Σx, scaled.
  __device__ __forceinline__ void add_group(int q, const PackedSums& part, PackedSums& acc) const {
    const uint2 entries = shared_8(step + 1024 + q * 64 + lane / 4 * 8);
    float total[2];
    if constexpr (kOne) {
      total[0] = __uint_as_float(shared_4(sums + q * 4));
    } else {
      const uint2 both = shared_8(sums + q * 32);
      total[0] = __uint_as_float(both.x), total[1] = __uint_as_float(both.y);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t entry = i == 0 ? entries.x : entries.y;
      const float scale = half_scale(entry), zero = upper_half(entry);
#pragma unroll
      for (int c = 0; c < (kOne ? 1 : 2); ++c) {
        const float sum = part[0][2 * i + c] + part[1][2 * i + c];
        acc[0][2 * i + c] = fmaf(scale, fmaf(-zero, total[c], sum), acc[0][2 * i + c]);
      }
    }
  }
  __device__ __forceinline__ void run_int4(PackedSums& acc) const {
    constexpr int kRuns = packed_sum_columns(kKind) / 16;  // of a scale
    PackedSums part;
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      uint32_t b[8];
      load_x(group, b);
      const uint4 bits = ld_shared_16(step + group * 512 + lane * 16);
      const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int run = group * 4 + j;
        uint32_t a[4];
        decode_int4(words[j], a);
        if (run % kRuns < 2)
          mma_16816_bf16_first(part[j % 2], a, b[2 * j], b[2 * j + 1]);
        else
          mma_16816<__nv_bfloat16>(part[j % 2], a, b[2 * j], b[2 * j + 1]);
        if ((run + 1) % kRuns == 0) add_group(run / kRuns, part, acc);
      }
    }
  }

  // Lane 4 g + t's scales of block t of each group: row g's, row g + 8's, as bf16 pairs (group 0, group 1).
  __device__ __forceinline__ void load_scales(uint32_t (&scales)[2]) const {
    const uint32_t codes = shared_4(step + 1024 + lane * 4);
    scales[0] =
        multiply_bf16x2(codes << 4 & 0x07f007f0u, 0x7b807b80u);  // E4M3's bits are a bf16 2^120 too small
    scales[1] = multiply_bf16x2(codes >> 4 & 0x07f007f0u, 0x7b807b80u);
  }
  // One row of x: block t of group q alone is in column 2 t + q of the operation, so that a column's sum has
  // one scale.
  __device__ __forceinline__ void run_nvfp4_row(PackedSums& acc) const {
    PackedSums part;
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      uint32_t b[8];
      load_x(group, b);
      const uint4 bits = ld_shared_16(step + group * 512 + lane * 16);
      const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t a[4];
        decode_e2m1(words[j], a);
        if (group == 0 && j < 2)
          mma_16816_bf16_first(part[j % 2], a, b[2 * j], b[2 * j + 1]);
        else
          mma_16816<__nv_bfloat16>(part[j % 2], a, b[2 * j], b[2 * j + 1]);
      }
    }
    uint32_t scales[2];
    load_scales(scales);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      acc[0][2 * i] = fmaf(part[0][2 * i] + part[1][2 * i], __uint_as_float(scales[i] << 16), acc[0][2 * i]);
      acc[0][2 * i + 1] =
          fmaf(part[0][2 * i + 1] + part[1][2 * i + 1], upper_half(scales[i]), acc[0][2 * i + 1]);
    }
  }
  __device__ __forceinline__ void run_nvfp4(PackedSums& acc) const {
    uint32_t scales[2];
    load_scales(scales);
#pragma unroll
    for (int i = 0; i < 2; ++i) scales[i] = multiply_bf16x2(scales[i], 0x7a007a00u);  // 2^117
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      uint32_t b[8];
      load_x(group, b);
      const uint32_t both = group == 0 ? 0x1010 : 0x3232;
      const uint32_t scale[2] = {__byte_perm(scales[0], 0, both), __byte_perm(scales[1], 0, both)};
      const uint4 bits = ld_shared_16(step + group * 512 + lane * 16);
      const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t a[4];
        decode_e2m1(words[j], a);
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = multiply_bf16x2(a[i], scale[i % 2]);
        mma_16816<__nv_bfloat16>(acc[j % 2], a, b[2 * j], b[2 * j + 1]);
      }
    }
  }

  __device__ __forceinline__ void run(PackedSums& acc) const {
    if constexpr (is_wide(kKind))
      run_wide(acc);
    else if constexpr (is_int4(kKind))
      run_int4(acc);
    else if constexpr (kOne)
      run_nvfp4_row(acc);
    else
      run_nvfp4(acc);
  }
};

}  // namespace flashrt
