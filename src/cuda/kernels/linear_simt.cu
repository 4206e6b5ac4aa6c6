// Linear layer of any size and any element types, in exact f32 arithmetic: 64 × 64 tiles through shared
// memory.
#include "cuda/kernels/common/linear_finish.cuh"
#include "cuda/kernels/common/pdl.cuh"

namespace flashrt {

namespace {
constexpr int kTile = 64, kDepth = 16, kStride = kTile + 4;  // rows of x, rows of w, k per step; padded rows
constexpr int kThreads = 128;                                // 4 rows × 8 columns of the tile each
}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    linear_simt(const __grid_constant__ LinearTileParams p) {
  __shared__ __align__(16) float xs[kDepth][kStride], ws[kDepth][kStride];
  const int row0 = int(blockIdx.x) * kTile, column0 = int(blockIdx.y) * (p.pair ? kTile / 2 : kTile);
  const int tid = int(threadIdx.x), ty = tid / 8, tx = tid % 8;
  const int load_row = tid / 2,
            load_k = tid % 2 * kPack;  // each thread loads one pack of x and one of w per step
  const int x_row = row0 + load_row, w_row = weight_row<4>(p, column0, load_row);
  pdl_launch();
  pdl_wait();

  float sum[4][8] = {};
  for (int k0 = 0; k0 < p.k; k0 += kDepth) {
    const int count = max(0, min(kPack, p.k - k0 - load_k));
    float x[kPack], w[kPack];
    load_pack(x, p.x.data, p.x.type, size_t(x_row) * p.x.stride + k0 + load_k, x_row < p.m ? count : 0,
              p.packed);
    load_pack(w, p.w.data, p.w.type, size_t(max(w_row, 0)) * p.w.stride + k0 + load_k, w_row >= 0 ? count : 0,
              p.packed);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kPack; ++j) xs[load_k + j][load_row] = x[j], ws[load_k + j][load_row] = w[j];
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < kDepth; ++kk) {
      const float4 a = *reinterpret_cast<const float4*>(&xs[kk][ty * 4]);
      const float4 b0 = *reinterpret_cast<const float4*>(&ws[kk][tx * 8]);
      const float4 b1 = *reinterpret_cast<const float4*>(&ws[kk][tx * 8 + 4]);
      const float av[4] = {a.x, a.y, a.z, a.w}, bv[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(av[i], bv[j], sum[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = row0 + ty * 4 + i;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (p.pair) {
        finish_element(p, row, column0 + tx * 4 + j, sum[i][j], sum[i][4 + j]);
      } else {
        finish_element(p, row, column0 + tx * 8 + j, sum[i][j], 0.f);
        finish_element(p, row, column0 + tx * 8 + 4 + j, sum[i][4 + j], 0.f);
      }
    }
  }
}

}  // namespace flashrt
