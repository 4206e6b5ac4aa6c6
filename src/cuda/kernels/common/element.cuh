// Reads and writes of single elements and of packs of 8, as f32 whatever the element type.
#pragma once
#include "cuda/kernels/common/element.h"
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

constexpr int kPack = 8;  // elements: 16 bytes of a half type

__device__ __forceinline__ float load_element(const void* data, Element type, size_t i) {
  switch (type) {
    case Element::bf16: return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
    case Element::f16: return __half2float(static_cast<const __half*>(data)[i]);
    default: return static_cast<const float*>(data)[i];
  }
}

__device__ __forceinline__ void store_element(void* data, Element type, size_t i, float v) {
  switch (type) {
    case Element::bf16: static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(v); break;
    case Element::f16: static_cast<__half*>(data)[i] = __float2half_rn(v); break;
    default: static_cast<float*>(data)[i] = v;
  }
}

// Two neighbours; the address of element i is a multiple of their size.
__device__ __forceinline__ void store_two(void* data, Element type, size_t i, float a, float b) {
  switch (type) {
    case Element::bf16:
      *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(data) + i) = pack2<__nv_bfloat16>(a, b);
      break;
    case Element::f16:
      *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(data) + i) = pack2<__half>(a, b);
      break;
    default: *reinterpret_cast<float2*>(static_cast<float*>(data) + i) = make_float2(a, b);
  }
}

// Elements i … i + count − 1 (count ≤ 8), the rest of v zero. With `packed` a full pack is read in 16-byte
// accesses.
__device__ __forceinline__ void load_pack(float (&v)[kPack], const void* data, Element type, size_t i,
                                          int count, bool packed) {
  if (!packed || count < kPack) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) v[j] = j < count ? load_element(data, type, i + j) : 0.f;
    return;
  }
  if (type == Element::f32) {
    const auto* from = reinterpret_cast<const float4*>(static_cast<const float*>(data) + i);
    const float4 a = from[0], b = from[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
  const uint4 bits = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(data) + i);
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float2 two = type == Element::bf16 ? unpack2<__nv_bfloat16>(words[j]) : unpack2<__half>(words[j]);
    v[2 * j] = two.x, v[2 * j + 1] = two.y;
  }
}

__device__ __forceinline__ void store_pack(void* data, Element type, size_t i, const float (&v)[kPack],
                                           int count, bool packed) {
  if (!packed || count < kPack) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      if (j < count) store_element(data, type, i + j, v[j]);
    }
    return;
  }
  if (type == Element::f32) {
    auto* to = reinterpret_cast<float4*>(static_cast<float*>(data) + i);
    to[0] = make_float4(v[0], v[1], v[2], v[3]);
    to[1] = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
  uint32_t words[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    words[j] = type == Element::bf16 ? pack2<__nv_bfloat16>(v[2 * j], v[2 * j + 1])
                                     : pack2<__half>(v[2 * j], v[2 * j + 1]);
  }
  *reinterpret_cast<uint4*>(static_cast<uint16_t*>(data) + i) =
      make_uint4(words[0], words[1], words[2], words[3]);
}

// The pack of this thread when a grid of one-dimensional blocks covers rows × ⌈cols / 8⌉ packs.
struct PackPlace {
  uint32_t row;
  int col, count;
  bool inside;
};
__device__ __forceinline__ PackPlace pack_place(int rows, int cols) {
  const uint32_t per_row = (uint32_t(cols) + kPack - 1) / kPack;
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;  // fewer than 2³² packs
  const uint32_t row = index / per_row;
  const int col = int(index % per_row) * kPack;
  return {row, col, min(kPack, cols - col), row < uint32_t(rows)};
}

}  // namespace flashrt
