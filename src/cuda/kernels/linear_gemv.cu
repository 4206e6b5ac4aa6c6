// Linear layer for few rows of x, any element types: a warp streams two rows of w (a gated pair's gate and
// up) past all rows of x.
#include "cuda/kernels/common/linear_finish.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/reduce.cuh"

namespace flashrt {

namespace {

// grid.x: groups of (threads / 32) warps over pairs of weight rows; grid.y: groups of Rows rows of x.
template <int Rows>
__device__ void linear_gemv(const LinearTileParams& p) {
  const int pair = int(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = int(threadIdx.x % 32);
  const int row0 = int(blockIdx.y) * Rows, half = p.n / 2;
  const int first = p.pair ? pair : 2 * pair, second = p.pair ? half + pair : 2 * pair + 1;
  pdl_launch();
  pdl_wait();
  if (first >= (p.pair ? half : p.n)) return;
  const bool both = second < p.n;
  const size_t w0 = size_t(first) * p.w.stride, w1 = size_t(both ? second : first) * p.w.stride;

  float sum[Rows][2] = {};
  for (int c = lane * kPack; c < p.k; c += 32 * kPack) {
    const int count = min(kPack, p.k - c);
    float a[kPack], b[kPack];
    load_pack(a, p.w.data, p.w.type, w0 + c, count, p.packed);
    load_pack(b, p.w.data, p.w.type, w1 + c, count, p.packed);
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      if (row0 + r >= p.m) break;
      float x[kPack];
      load_pack(x, p.x.data, p.x.type, size_t(row0 + r) * p.x.stride + c, count, p.packed);
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        sum[r][0] = fmaf(x[j], a[j], sum[r][0]);
        sum[r][1] = fmaf(x[j], b[j], sum[r][1]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
    sum[r][0] = warp_total(sum[r][0]);
    sum[r][1] = warp_total(sum[r][1]);
  }
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
    if (lane != r) continue;
    if (p.pair) {
      finish_element(p, row0 + r, first, sum[r][0], sum[r][1]);
    } else {
      finish_element(p, row0 + r, first, sum[r][0], 0.f);
      if (both) finish_element(p, row0 + r, second, sum[r][1], 0.f);
    }
  }
}

}  // namespace

#define FLASHRT_LINEAR_GEMV(rows)                                      \
  extern "C" __global__ void __launch_bounds__(128, 4)                 \
      linear_gemv_##rows(const __grid_constant__ LinearTileParams p) { \
    linear_gemv<rows>(p);                                              \
  }
FLASHRT_LINEAR_GEMV(1)
FLASHRT_LINEAR_GEMV(4)
FLASHRT_LINEAR_GEMV(16)

}  // namespace flashrt
