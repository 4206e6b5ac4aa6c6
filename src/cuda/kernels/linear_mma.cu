// Linear layer of half types on mma.sync (sm_80 and later): tiles through a ring of asynchronous copies, any
// m, n, k.
#include "cuda/kernels/common/linear_finish.cuh"
#include "cuda/kernels/common/mma_tile.cuh"
#include "cuda/kernels/common/pdl.cuh"

namespace flashrt {

namespace {

template <class Tile>
__device__ __forceinline__ void linear_mma(const LinearTileParams& p, uint32_t ring, int row0, int column0) {
  pdl_launch();
  if (!p.known_weights) pdl_wait();
  typename Tile::Sums sum = {};
  const Tile tile{ring, p.k};
  tile.product(
      p.x, p.w, [&](int j) { return row0 + j < p.m ? row0 + j : -1; },
      [&](int j) { return weight_row<8>(p, column0, j); }, [] { pdl_wait(); }, p.m - row0 - Tile::warp_row(),
      sum);
  tile.for_each_in_loop(sum, [&](int row, int column, const float(&even)[2], const float(&odd)[2]) {
    if (p.pair) {
      finish_two(p, row0 + row, column0 + column / 16 * 8 + column % 8, even, odd);
    } else {
      finish_two(p, row0 + row, column0 + column, even, even);
      finish_two(p, row0 + row, column0 + column + 8, odd, odd);
    }
  });
}

}  // namespace

// grid: (tiles of x, tiles of w); Columns rows of w are Columns result columns, or Columns/2 of a pair.
#define FLASHRT_LINEAR_MMA(name, T, rows, columns, warp_rows, warp_columns, stages)                     \
  extern "C" __global__ void __launch_bounds__(32 * warp_rows * warp_columns)                           \
      linear_mma_##name##_##rows##x##columns(const __grid_constant__ LinearTileParams p) {              \
    extern __shared__ __align__(128) unsigned char ring[];                                              \
    linear_mma<MmaTile<T, rows, columns, warp_rows, warp_columns, stages>>(                             \
        p, smem_u32(ring), int(blockIdx.x) * rows, int(blockIdx.y) * (p.pair ? columns / 2 : columns)); \
  }
FLASHRT_LINEAR_MMA(bf16, __nv_bfloat16, 128, 128, 2, 4, 3)
FLASHRT_LINEAR_MMA(bf16, __nv_bfloat16, 64, 64, 2, 2, 4)
FLASHRT_LINEAR_MMA(f16, __half, 128, 128, 2, 4, 3)
FLASHRT_LINEAR_MMA(f16, __half, 64, 64, 2, 2, 4)

}  // namespace flashrt
