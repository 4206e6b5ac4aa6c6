// One step of a tile of packed weights: 16 rows × 128 columns decoded to bf16 in registers, in the order of
// m16n8k16's operands, and multiplied with at most 8 rows of x. Products accumulate in f32.
#pragma once
#include "cuda/kernels/common/mma_sync.cuh"
#include "cuda/kernels/common/packed_params.h"
#include "cuda/kernels/common/weight_decoders.cuh"

namespace flashrt {

__device__ __forceinline__ uint32_t shared_4(uint32_t address) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
__device__ __forceinline__ uint32_t multiply_bf16x2(uint32_t a, uint32_t b) {
  uint32_t v;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
  return v;
}
__device__ __forceinline__ uint32_t subtract_bf16x2(uint32_t a, uint32_t b) {
  uint32_t v;
  asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(a), "r"(b));
  return v;
}

// (a & b) | c as one instruction: the compiler would rather take two that hold a constant each.
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t v;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(v) : "r"(a), "r"(b), "r"(c));
  return v;
}

// Four E4M3 bytes: (row g, row g + 8) of one column, of the next. Their bits are those of a bf16 that is
// 2^120 too small.
__device__ __forceinline__ void decode_fp8(uint32_t word, uint32_t& low, uint32_t& high) {
  constexpr uint32_t kFactor = 0x7b807b80u;  // 2^120
  low = multiply_bf16x2((word << 4 & 0x07f007f0u) | (word << 8 & 0x80008000u), kFactor);
  high = multiply_bf16x2((word >> 4 & 0x07f007f0u) | (word & 0x80008000u), kFactor);
}

// Four bytes, each plus 128: put into the last bits of 2^23, from which 2^23 + 128 is taken.
__device__ __forceinline__ void decode_int8(uint32_t word, uint32_t& low, uint32_t& high) {
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 | i)) - 8388736.f;
  low = pack2<__nv_bfloat16>(v[0], v[2]);
  high = pack2<__nv_bfloat16>(v[1], v[3]);
}

// Eight nibbles: put into the last bits of 128, from which 128 + zero is taken.
__device__ __forceinline__ void decode_int4(uint32_t word, const uint32_t (&zero)[2], uint32_t (&a)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = subtract_bf16x2(and_or(word >> (4 * i), 0x000f000fu, 0x43004300u), zero[i % 2]);
}

// Eight E2M1 codes. Magnitudes at bits 6 … 8 are those of a bf16 that is 2^126 too small; scale is s · 2^117.
__device__ __forceinline__ void decode_nvfp4(uint32_t word, const uint32_t (&scale)[2], uint32_t (&a)[4]) {
  constexpr uint32_t kMagnitude = 0x01c001c0u, kSign = 0x80008000u;
  a[0] = multiply_bf16x2(word & (kMagnitude | kSign), scale[0]);
  a[1] = multiply_bf16x2((word >> 3 & kMagnitude) | (word << 15 & kSign), scale[1]);
  a[2] = multiply_bf16x2((word >> 6 & kMagnitude) | (word << 14 & kSign), scale[0]);
  a[3] = multiply_bf16x2((word << 3 & kMagnitude) | (word << 13 & kSign), scale[1]);
}

__device__ __forceinline__ float half_to_float(uint32_t bits, bool bf16) {
  return bf16 ? __uint_as_float(bits << 16) : __half2float(__ushort_as_half(uint16_t(bits & 0xffffu)));
}

// Products go to two sums in turn, so that one does not wait for the other.
using PackedSums = float[2][4];

// acc += w · x over one step. `step` and `x` are shared addresses: of the step, and of this lane's row of x
// at the step's first column; lanes whose row does not exist pass inside = false.
template <PackedKind kKind>
struct PackedStep {
  const uint32_t step, x;
  const int lane;
  const bool inside, bf16_scales;

  // x for the four runs of one group of 64 columns.
  __device__ __forceinline__ void load_x(int group, uint32_t (&b)[8]) const {
    uint4 first{}, second{};
    if (inside) first = ld_shared_16(x + group * 128), second = ld_shared_16(x + group * 128 + 64);
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

  __device__ __forceinline__ void run_int4(PackedSums& acc) const {
    constexpr int kScales = kKind == PackedKind::int4 ? 1 : 4;  // of the step's columns
    PackedSums part = {};
    float scale[2] = {};
    uint32_t zero[2] = {};
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      uint32_t b[8];
      load_x(group, b);
      const uint4 bits = ld_shared_16(step + group * 512 + lane * 16);
      const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int run = group * 4 + j;  // of 8
        if (run % (8 / kScales) == 0) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const uint32_t entry = shared_4(step + 1024 + run / (8 / kScales) * 64 + (lane / 4 + 8 * i) * 4);
            scale[i] = half_to_float(entry, bf16_scales);
            zero[i] = __byte_perm(entry, 0, 0x3232);
          }
        }
        uint32_t a[4];
        decode_int4(words[j], zero, a);
        mma_16816<__nv_bfloat16>(part[j % 2], a, b[2 * j], b[2 * j + 1]);
        if ((run + 1) % (8 / kScales) == 0) {
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            acc[i / 4][i % 4] = fmaf(scale[i % 4 / 2], part[i / 4][i % 4], acc[i / 4][i % 4]);
            part[i / 4][i % 4] = 0.f;
          }
        }
      }
    }
  }

  __device__ __forceinline__ void run_nvfp4(PackedSums& acc) const {
    const uint32_t codes = shared_4(step + 1024 + lane * 4);
    uint32_t scales[2] = {codes << 4 & 0x07f007f0u,
                          codes >> 4 & 0x07f007f0u};  // rows g, g + 8; a half per group
#pragma unroll
    for (int i = 0; i < 2; ++i)  // E4M3's bits are a bf16 that is 2^120 too small: times 2^127 · 2^110
      scales[i] = multiply_bf16x2(multiply_bf16x2(scales[i], 0x7f007f00u), 0x76807680u);
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
        decode_nvfp4(words[j], scale, a);
        mma_16816<__nv_bfloat16>(acc[j % 2], a, b[2 * j], b[2 * j + 1]);
      }
    }
  }

  __device__ __forceinline__ void run(PackedSums& acc) const {
    if constexpr (is_wide(kKind))
      run_wide(acc);
    else if constexpr (is_int4(kKind))
      run_int4(acc);
    else
      run_nvfp4(acc);
  }
};

}  // namespace flashrt
