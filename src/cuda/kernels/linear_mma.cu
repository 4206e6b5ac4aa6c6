// Linear layer of half types on mma.sync (sm_80 and later): tiles through a ring of asynchronous copies, any
// m, n, k.
#include "cuda/kernels/common/linear_finish.cuh"
#include "cuda/kernels/common/mma_sync.cuh"
#include "cuda/kernels/common/pdl.cuh"

namespace flashrt {

namespace {

constexpr int kDepth = 64, kRowBytes = kDepth * 2;  // k per stage

// Address of 16-byte chunk `chunk` of a tile's row: chunks are permuted within the row against bank
// conflicts.
__device__ __forceinline__ uint32_t chunk_address(uint32_t tile, int row, int chunk) {
  return tile + row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}

// Rows × Columns tile of the product by WarpRows × WarpColumns warps; Columns counts rows of w.
template <class T, int Rows, int Columns, int WarpRows, int WarpColumns, int Stages>
struct LinearMma {
  static constexpr int kThreads = 32 * WarpRows * WarpColumns;
  static constexpr int kStageBytes = (Rows + Columns) * kRowBytes;
  static constexpr int kM = Rows / WarpRows / 16, kN = Columns / WarpColumns / 8;  // fragments of a warp
  static_assert(kN % 2 == 0 && Rows % 16 == 0);

  const LinearTileParams& p;
  uint32_t smem;
  int row0, column0;

  // Rows × 64 elements from column k0 on, zero beyond the matrix.
  template <int Count, class RowOf>
  __device__ void load_tile(uint32_t tile, const Source& from, int k0, RowOf row_of) const {
#pragma unroll
    for (int i = 0; i < (Count * 8 + kThreads - 1) / kThreads; ++i) {
      const int item = i * kThreads + int(threadIdx.x), row = item / 8, chunk = item % 8;
      if (Count * 8 % kThreads != 0 && item >= Count * 8) break;
      const int source_row = row_of(row), k = k0 + chunk * 8;
      const int bytes = source_row < 0 ? 0 : max(0, min(16, (p.k - k) * 2));
      const T* data = static_cast<const T*>(from.data);
      copy_async_16(chunk_address(tile, row, chunk),
                    bytes > 0 ? data + size_t(source_row) * from.stride + k : data, bytes);
    }
  }
  __device__ void load_x(int step) const {
    load_tile<Rows>(smem + step % Stages * kStageBytes, p.x, step * kDepth,
                    [&](int j) { return row0 + j < p.m ? row0 + j : -1; });
  }
  __device__ void load_w(int step) const {
    load_tile<Columns>(smem + step % Stages * kStageBytes + Rows * kRowBytes, p.w, step * kDepth,
                       [&](int j) { return weight_row<8>(p, column0, j); });
  }

  __device__ void multiply(uint32_t stage, int warp_row, int warp_column, float (&sum)[kM][kN][4]) const {
    const int lane = int(threadIdx.x % 32);
    const uint32_t xs = stage, ws = stage + Rows * kRowBytes;
#pragma unroll
    for (int kk = 0; kk < kDepth / 16; ++kk) {
      uint32_t a[kM][4], b[kN / 2][4];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        ldmatrix_x4(chunk_address(xs, warp_row + i * 16 + lane % 16, kk * 2 + lane / 16), a[i]);
      }
#pragma unroll
      for (int j = 0; j < kN / 2;
           ++j) {  // two fragments of 8 columns: lanes 0–7 k, 8–15 k + 8, then the next 8 columns
        ldmatrix_x4(chunk_address(ws, warp_column + j * 16 + lane / 16 * 8 + lane % 8, kk * 2 + lane / 8 % 2),
                    b[j]);
      }
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j)
          mma_16816<T>(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  __device__ void store(int warp_row, int warp_column, const float (&sum)[kM][kN][4]) const {
    const int g = int(threadIdx.x % 32) / 4, t = int(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + warp_row + i * 16 + half * 8 + g;
#pragma unroll
        for (int j = 0; j < kN; j += 2) {
          const float even[2] = {sum[i][j][half * 2], sum[i][j][half * 2 + 1]};
          const float odd[2] = {sum[i][j + 1][half * 2], sum[i][j + 1][half * 2 + 1]};
          if (p.pair) {
            finish_two(p, row, column0 + warp_column / 2 + j * 4 + t * 2, even, odd);
          } else {
            finish_two(p, row, column0 + warp_column + j * 8 + t * 2, even, even);
            finish_two(p, row, column0 + warp_column + j * 8 + 8 + t * 2, odd, odd);
          }
        }
      }
    }
  }

  __device__ void run() const {
    const int steps = (p.k + kDepth - 1) / kDepth, warp = int(threadIdx.x / 32);
    const int warp_row = warp / WarpColumns * kM * 16, warp_column = warp % WarpColumns * kN * 8;
    pdl_launch();
    if (!p.known_weights) pdl_wait();
#pragma unroll
    for (int s = 0; s < Stages - 1; ++s) {
      if (s < steps) load_w(s);
    }
    pdl_wait();
#pragma unroll
    for (int s = 0; s < Stages - 1; ++s) {
      if (s < steps) load_x(s);
      copy_async_commit();  // the first group also holds every w tile above
    }
    float sum[kM][kN][4] = {};
    for (int step = 0; step < steps; ++step) {
      copy_async_wait<Stages - 2>();
      __syncthreads();  // this stage has landed, and everyone is done with the one refilled below
      if (step + Stages - 1 < steps) {
        load_w(step + Stages - 1);
        load_x(step + Stages - 1);
      }
      copy_async_commit();
      multiply(smem + step % Stages * kStageBytes, warp_row, warp_column, sum);
    }
    store(warp_row, warp_column, sum);
  }
};

}  // namespace

// grid: (tiles of x, tiles of w); Columns rows of w are Columns result columns, or Columns/2 of a pair.
#define FLASHRT_LINEAR_MMA(name, T, rows, columns, warp_rows, warp_columns, stages)                    \
  extern "C" __global__ void __launch_bounds__(32 * warp_rows * warp_columns)                          \
      linear_mma_##name##_##rows##x##columns(const __grid_constant__ LinearTileParams p) {             \
    extern __shared__ __align__(128) unsigned char ring[];                                             \
    LinearMma<T, rows, columns, warp_rows, warp_columns, stages>{                                      \
        p, smem_u32(ring), int(blockIdx.x) * rows, int(blockIdx.y) * (p.pair ? columns / 2 : columns)} \
        .run();                                                                                        \
  }
FLASHRT_LINEAR_MMA(bf16, __nv_bfloat16, 128, 128, 2, 4, 3)
FLASHRT_LINEAR_MMA(bf16, __nv_bfloat16, 64, 64, 2, 2, 4)
FLASHRT_LINEAR_MMA(f16, __half, 128, 128, 2, 4, 3)
FLASHRT_LINEAR_MMA(f16, __half, 64, 64, 2, 2, 4)

}  // namespace flashrt
