// Packed weights to plain elements, each the product that the format defines, rounded once: a warp per step
// of a tile, a lane decodes what it would multiply.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/weight_packed.cuh"
#include "quant/fp8.h"

namespace flashrt {

namespace {

// The two values of a decoded pair, which is 2^exponent too small.
template <int kExponent>
__device__ __forceinline__ void values_of(uint32_t pair, float (&v)[2]) {
  constexpr float kHalf = 0x1p60f;  // 2^133 is no float
  constexpr float kRest = kExponent == 133   ? 0x1p73f
                          : kExponent == 129 ? 0x1p69f
                          : kExponent == 126 ? 0x1p66f
                                             : 0x1p60f;
  v[0] = __uint_as_float(pair << 16) * kHalf * kRest;
  v[1] = upper_half(pair) * kHalf * kRest;
}

// One lane's part of a group of 64 columns: rows g and g + 8, four runs of four columns.
template <PackedKind kKind>
struct UnpackGroup {
  const UnpackParams& p;
  const uint8_t* step;
  int tile, lane, group, column0;  // column0: of the group

  __device__ __forceinline__ void store(int row, int column, const float (&v)[4]) const {
    const size_t at = size_t(row) * p.y.stride + column;
    if (column + 3 < p.w.k && p.y.stride % 4 == 0 && p.y.type != Element::f32) {
      const bool bf16 = p.y.type == Element::bf16;
      *reinterpret_cast<uint2*>(static_cast<uint16_t*>(p.y.data) + at) =
          make_uint2(bf16 ? pack2<__nv_bfloat16>(v[0], v[1]) : pack2<__half>(v[0], v[1]),
                     bf16 ? pack2<__nv_bfloat16>(v[2], v[3]) : pack2<__half>(v[2], v[3]));
      return;
    }
    for (int i = 0; i < 4 && column + i < p.w.k; ++i) store_element(p.y.data, p.y.type, at + i, v[i]);
  }

  // What run j's codes less `zero` are multiplied with, in row g + 8·upper.
  __device__ __forceinline__ float scale(int j, int upper, float& zero) const {
    const int place = tile * kPackedRows + lane / 4 + 8 * upper;
    zero = kKind == PackedKind::int8 ? 128.f : 0.f;
    if constexpr (is_wide(kKind)) return p.w.row_scale[place];
    if constexpr (is_int4(kKind)) {
      const int q = kKind == PackedKind::int4 ? 0 : (group * 4 + j) / 2;
      const uint32_t entry =
          *reinterpret_cast<const uint32_t*>(step + 1024 + q * 64 + (lane / 4 * 2 + upper) * 4);
      zero = upper_half(entry) * (upper ? 0.0625f : 1.f);
      return p.w.bf16_scales ? __uint_as_float(entry << 16) : __half2float(__ushort_as_half(uint16_t(entry)));
    }
    const float stored = quant::e4m3_to_f32(step[1024 + lane * 4 + group * 2 + upper]);
    const float global = p.w.row_global[place];
    return global < 0 ? __fdiv_rn(stored, -global) : stored * global;
  }

  // The codes of run j as bf16 pairs: rows g, g + 8 of columns 0 1, then of 2 3.
  __device__ __forceinline__ void codes(const uint4 (&bits)[is_wide(kKind) ? 2 : 1], int j,
                                        uint32_t (&a)[4]) const {
    if constexpr (is_wide(kKind)) {
      const uint4& four = bits[j / 2];
      const uint32_t words[2] = {j % 2 ? four.z : four.x, j % 2 ? four.w : four.y};
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if constexpr (kKind == PackedKind::fp8)
          decode_fp8(words[h], a[2 * h], a[2 * h + 1]);
        else
          decode_int8(words[h], a[2 * h], a[2 * h + 1]);
      }
    } else {
      const uint32_t words[4] = {bits[0].x, bits[0].y, bits[0].z, bits[0].w};
      if constexpr (is_int4(kKind))
        decode_int4(words[j], a);
      else
        decode_e2m1(words[j], a);
    }
  }

  // nvfp4: a lane's four runs are neighbours; the runs of one row as 32 bytes at once.
  __device__ __forceinline__ void store_runs(int row, int column, const float (&v)[4][4]) const {
    if (column + 15 >= p.w.k || p.y.stride % 8 != 0 || p.y.type == Element::f32) {
#pragma unroll
      for (int j = 0; j < 4; ++j) store(row, column + 4 * j, v[j]);
      return;
    }
    const bool bf16 = p.y.type == Element::bf16;
    uint32_t words[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float a = v[i / 2][i % 2 * 2], b = v[i / 2][i % 2 * 2 + 1];
      words[i] = bf16 ? pack2<__nv_bfloat16>(a, b) : pack2<__half>(a, b);
    }
    auto* to = reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.y.data) + size_t(row) * p.y.stride + column);
    to[0] = make_uint4(words[0], words[1], words[2], words[3]);
    to[1] = make_uint4(words[4], words[5], words[6], words[7]);
  }

  __device__ __forceinline__ void run() const {
    constexpr int kParts = is_wide(kKind) ? 2 : 1, kRunsOfScale = kKind == PackedKind::int4_fine ? 2 : 4;
    constexpr int kExponent = kKind == PackedKind::fp8 ? 120 : kKind == PackedKind::nvfp4 ? 126 : 133;
    constexpr int kUpperExponent = is_int4(kKind) ? 129 : kExponent;
    uint4 bits[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      bits[part] = *reinterpret_cast<const uint4*>(step + group * kParts * 512 + part * 512 + lane * 16);
    const int half = p.w.n / 2, row = tile * 8 + lane / 4, t = lane % 4;
    float factor[2], zero[2], runs[2][4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j % kRunsOfScale == 0) {
#pragma unroll
        for (int upper = 0; upper < 2; ++upper) factor[upper] = scale(j, upper, zero[upper]);
      }
      uint32_t a[4];
      codes(bits, j, a);
      float v[4][2];
      values_of<kExponent>(a[0], v[0]), values_of<kUpperExponent>(a[1], v[1]);
      values_of<kExponent>(a[2], v[2]), values_of<kUpperExponent>(a[3], v[3]);
      const int column = column0 + (kKind == PackedKind::nvfp4 ? 16 * t + 4 * j : 16 * j + 4 * t);
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          runs[upper][j][i] = (v[i / 2 * 2 + upper][i % 2] - zero[upper]) * factor[upper];
        if constexpr (kKind != PackedKind::nvfp4) store(row + upper * half, column, runs[upper][j]);
      }
    }
    if constexpr (kKind == PackedKind::nvfp4) {
      store_runs(row, column0 + 16 * t, runs[0]);
      store_runs(row + half, column0 + 16 * t, runs[1]);
    }
  }
};

template <PackedKind kKind>
__device__ void unpack(const UnpackParams& p) {
  pdl_launch();
  pdl_wait();
  const int64_t index = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const int lane = int(threadIdx.x % 32), tile = int(index / p.w.steps), s = int(index % p.w.steps);
  if (tile >= p.tiles || tile * 8 + lane / 4 >= p.w.n / 2) return;
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    UnpackGroup<kKind>{
        p, p.w.tiles + index * packed_step_bytes(kKind), tile, lane, group, s * kPackedColumns + group * 64}
        .run();
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
