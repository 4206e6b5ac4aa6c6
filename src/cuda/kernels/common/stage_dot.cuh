// Two rows of weights times one vector, by one warp, from shared memory: lane l multiplies columns 8·l … 8·l
// + 7 of every 256.
//
// The tensor cores do it without a decoding instruction: rows g and g + 8 of A are columns 32·g … 32·g + 31
// of the first and of the second row of weights, column g of B the same columns of x. Of the product D[i, j],
// the diagonals D[g, g] and D[g + 8, g] are wanted; what a lane feeds in is what it has read, 16 neighbouring
// bytes of each.
//
// A stage of a weight format W is multiplied in two steps, between which its memory can be given back:
//   W::Bits bits(w, second, x, columns)     reads `columns` columns (≤ W::kColumns): rows at shared addresses
//   w and
//                                           w + second, the vector (bf16) at x
//   bits.multiply(sum)                      adds their products
#pragma once
#include "cuda/kernels/common/mma_sync.cuh"

namespace flashrt {

struct RowPair {
  float d[4][4] = {};

  // The two sums, in every lane.
  __device__ __forceinline__ float2 total() const {
    const int lane = int(lane_id()), g = lane >> 2;
    const auto over = [&](int j) { return (d[0][j] + d[1][j]) + (d[2][j] + d[3][j]); };
    const float first = g & 1 ? over(1) : over(0), second = g & 1 ? over(3) : over(2);
    const int from = (lane & 7) * 4 + ((lane & 7) >> 1);  // the lane that holds D[lane & 7, lane & 7]
    const float a = __shfl_sync(0xffffffffu, first, from), b = __shfl_sync(0xffffffffu, second, from);
    float v = lane & 8 ? b : a;
#pragma unroll
    for (int o = 4; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
    return make_float2(__shfl_sync(0xffffffffu, v, 0), __shfl_sync(0xffffffffu, v, 8));
  }
};

// bf16, row-major as in the checkpoint.
struct Bf16Stage {
  static constexpr int kColumns = 1024, kSteps = kColumns / 256;
  uint4 a[kSteps], b[kSteps], v[kSteps];

  __device__ __forceinline__ Bf16Stage(uint32_t w, uint32_t second, uint32_t x, int columns) {
    w += lane_id() * 16, x += lane_id() * 16;
    const int left = columns - int(lane_id()) * 8;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      a[s] = b[s] = v[s] = make_uint4(0, 0, 0, 0);
      if (s * 256 < left) {
        a[s] = ld_shared_16(w + s * 512), b[s] = ld_shared_16(w + second + s * 512);
        v[s] = ld_shared_16(x + s * 512);
      }
    }
  }
  __device__ __forceinline__ void multiply(RowPair& sum) const {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      mma_16816<__nv_bfloat16>(sum.d[s % 2 * 2], {a[s].x, b[s].x, a[s].y, b[s].y}, v[s].x, v[s].y);
      mma_16816<__nv_bfloat16>(sum.d[s % 2 * 2 + 1], {a[s].z, b[s].z, a[s].w, b[s].w}, v[s].z, v[s].w);
    }
  }
};

}  // namespace flashrt
