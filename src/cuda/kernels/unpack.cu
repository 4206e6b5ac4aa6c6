// Packed weights to plain elements, each the product that the format defines, rounded once: a thread takes
// one lane's run of four columns of one row.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/packed_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "quant/fp8.h"
#include "quant/nvfp4.h"

namespace flashrt {

namespace {

__device__ float scale_of_half(uint32_t bits, bool bf16) {
  return bf16 ? __uint_as_float(bits << 16) : __half2float(__ushort_as_half(uint16_t(bits & 0xffffu)));
}

__device__ float e2m1(uint32_t half, int a) {
  const int magnitudes[4] = {6, 9, 12, 3}, signs[4] = {15, 0, 1, 2};
  const uint32_t m = half >> magnitudes[a] & 7u, exponent = m >> 1;
  const float v = exponent == 0 ? 0.5f * float(m) : __uint_as_float((exponent + 126) << 23 | (m & 1u) << 22);
  return half >> signs[a] & 1u ? -v : v;
}

// A warp per step of a tile; lane 4 g + t has rows g and g + 8.
template <PackedKind kKind>
__device__ void unpack(const UnpackParams& p) {
  pdl_launch();
  pdl_wait();
  const int64_t index = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const int lane = int(threadIdx.x % 32), tile = int(index / p.w.steps), s = int(index % p.w.steps);
  if (tile >= p.tiles) return;
  const uint8_t* step = p.w.tiles + index * packed_step_bytes(kKind);
  const int half = p.w.n / 2;
  for (int upper = 0; upper < 2; ++upper) {
    const int row = tile * 8 + lane / 4, place = tile * kPackedRows + lane / 4 + 8 * upper;
    if (row >= half) return;
    const float row_scale = p.w.row_scale != nullptr ? p.w.row_scale[place] : 1.f;
    for (int run = 0; run < 8; ++run) {
      const int group = run / 4, j = run % 4, t = lane % 4;
      const int column =
          s * kPackedColumns + group * 64 + (kKind == PackedKind::nvfp4 ? 16 * t + 4 * j : 16 * j + 4 * t);
      float v[4];
      for (int i = 0; i < 4; ++i) {
        const int a = i / 2 * 2 + upper;
        if constexpr (is_wide(kKind)) {
          const int word = 2 * j + i / 2;
          const uint8_t code =
              step[group * 1024 + word / 4 * 512 + lane * 16 + word % 4 * 4 + i % 2 * 2 + upper];
          v[i] = (kKind == PackedKind::fp8 ? quant::e4m3_to_f32(code) : float(int(code) - 128)) * row_scale;
        } else {
          const uint32_t word = *reinterpret_cast<const uint32_t*>(step + group * 512 + lane * 16 + j * 4);
          const uint32_t bits = i % 2 == 0 ? word & 0xffffu : word >> 16;
          if constexpr (is_int4(kKind)) {
            const int q = kKind == PackedKind::int4 ? 0 : run / 2;
            const uint32_t entry =
                *reinterpret_cast<const uint32_t*>(step + 1024 + q * 64 + (lane / 4 + 8 * upper) * 4);
            const float zero = __uint_as_float(entry & 0xffff0000u) - 128.f;
            v[i] = (float(bits >> (4 * a) & 15u) - zero) * scale_of_half(entry, p.w.bf16_scales);
          } else {
            const float stored = quant::e4m3_to_f32(step[1024 + lane * 4 + group * 2 + upper]);
            const float global = p.w.row_global[place];
            v[i] = e2m1(bits, a) * (global < 0 ? __fdiv_rn(stored, -global) : stored * global);
          }
        }
      }
      for (int i = 0; i < 4; ++i) {
        if (column + i < p.w.k) {
          store_element(p.y.data, p.y.type, size_t(row + upper * half) * p.y.stride + column + i, v[i]);
        }
      }
    }
  }
}

}  // namespace

// grid: warps cover tiles · steps
#define FLASHRT_UNPACK(kind)                                                                                \
  extern "C" __global__ void __launch_bounds__(256) unpack_##kind(const __grid_constant__ UnpackParams p) { \
    unpack<PackedKind::kind>(p);                                                                            \
  }
FLASHRT_UNPACK(fp8)
FLASHRT_UNPACK(int8)
FLASHRT_UNPACK(int4)
FLASHRT_UNPACK(int4_fine)
FLASHRT_UNPACK(nvfp4)

}  // namespace flashrt
