// A tile of x · wᵀ of half types on mma.sync (sm_80 and later): rows of x and of w, wherever they lie,
// through a ring of asynchronous copies.
#pragma once
#include "cuda/kernels/common/element.h"
#include "cuda/kernels/common/mma_sync.cuh"

namespace flashrt {

// Rows × Columns tile of the product by WarpRows × WarpColumns warps; Columns counts rows of w.
template <class T, int Rows, int Columns, int WarpRows, int WarpColumns, int Stages>
struct MmaTile {
  static constexpr int kThreads = 32 * WarpRows * WarpColumns;
  static constexpr int kDepth = 64, kRowBytes = kDepth * 2;  // k per stage
  static constexpr int kStageBytes = (Rows + Columns) * kRowBytes;
  static constexpr int kM = Rows / WarpRows / 16, kN = Columns / WarpColumns / 8;  // fragments of a warp
  static_assert(kN % 2 == 0 && Rows % 16 == 0);
  using Sums = float[kM][kN][4];

  uint32_t smem;  // of the ring
  int k;

  // First row and column of this warp within the tile.
  __device__ static int warp_row() { return int(threadIdx.x / 32) / WarpColumns * kM * 16; }
  __device__ static int warp_column() { return int(threadIdx.x / 32) % WarpColumns * kN * 8; }

  // Rows of a tile lie 128 bytes apart, their 16-byte chunks permuted against bank conflicts: chunk ^ (row &
  // 7).

  // The Count rows of an operand that a tile takes, as this thread copies them.
  template <int Count>
  struct RowList {
    static constexpr int kApart = kThreads / 8;  // rows that the threads copy at once
    static constexpr int kEach = (Count + kApart - 1) / kApart;
    const T* data;
    uint32_t at[kEach];  // in units of 16 bytes; kNone: of no row, nothing is copied

    // `row_of(j)`: where row j of the tile lies, −1 for none. Rows start on 16 bytes.
    template <class RowOf>
    __device__ RowList(const Source& from, RowOf row_of) : data(static_cast<const T*>(from.data)) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int j = i * kApart + int(threadIdx.x / 8);
        const int64_t row = j < Count ? int64_t(row_of(j)) : -1;
        at[i] = row < 0 ? kNone : uint32_t(row * (from.stride / 8) + threadIdx.x % 8);
      }
    }
    // 64 columns from k0 on; zeros beyond column k.
    __device__ void load(uint32_t tile, int k0, int k) const {
      const int row = int(threadIdx.x / 8), chunk = int(threadIdx.x % 8);
      const uint32_t to = tile + row * kRowBytes + ((chunk ^ (row & 7)) << 4);
      const T* from = data + k0;
      if (k0 + kDepth <= k) {
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          if (at[i] != kNone) copy_async_16(to + i * kApart * kRowBytes, from + size_t(at[i]) * 8);
        }
      } else {
        const int bytes = max(0, min(16, (k - k0 - chunk * 8) * 2));
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          if (at[i] != kNone)
            copy_async_16(to + i * kApart * kRowBytes, bytes > 0 ? from + size_t(at[i]) * 8 : data, bytes);
        }
      }
    }
  };
  static constexpr uint32_t kNone = 0xffffffffu;
  static_assert(kThreads % 64 == 0);  // so that a thread's rows are permuted alike

  // One stage; of every warp only the first `rows` rows are asked for. What rows of no operand hold is never
  // stored.
  __device__ void multiply(uint32_t stage, int rows, Sums& sum) const {
    const int lane = int(threadIdx.x % 32);
    const uint32_t xs = stage + (warp_row() + lane % 16) * kRowBytes;
    // Two fragments of 8 columns: lanes 0–7 k, 8–15 k + 8, then the next 8 columns.
    const uint32_t ws = stage + (Rows + warp_column() + lane / 16 * 8 + lane % 8) * kRowBytes;
#pragma unroll
    for (int kk = 0; kk < kDepth / 16; ++kk) {
      const uint32_t x_chunk = ((kk * 2 + lane / 16) ^ (lane & 7)) << 4;
      const uint32_t w_chunk = ((kk * 2 + lane / 8 % 2) ^ (lane & 7)) << 4;
      uint32_t a[4], b[kN / 2][4];
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) ldmatrix_x4(ws + w_chunk + j * 16 * kRowBytes, b[j]);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        if (i * 16 >= rows) continue;
        ldmatrix_x4(xs + x_chunk + i * 16 * kRowBytes, a);
#pragma unroll
        for (int j = 0; j < kN; ++j) mma_16816<T>(sum[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  // sum += x · wᵀ. `row_of_x(j)`, `row_of_w(j)`: where row j of the tile lies, −1 for none. `wait` is called
  // once, before x is read; the first tiles of w are asked for before that.
  template <class RowOfX, class RowOfW, class Wait>
  __device__ void product(const Source& x, const Source& w, RowOfX row_of_x, RowOfW row_of_w, Wait wait,
                          int rows, Sums& sum) const {
    const int steps = (k + kDepth - 1) / kDepth;
    const auto stage = [&](int step) { return smem + step % Stages * kStageBytes; };
    const RowList<Columns> of_w(w, row_of_w);
    const auto load_w = [&](int step) { of_w.load(stage(step) + Rows * kRowBytes, step * kDepth, k); };
#pragma unroll
    for (int s = 0; s < Stages - 1; ++s) {
      if (s < steps) load_w(s);
    }
    wait();
    const RowList<Rows> of_x(x, row_of_x);
    const auto load_x = [&](int step) { of_x.load(stage(step), step * kDepth, k); };
#pragma unroll
    for (int s = 0; s < Stages - 1; ++s) {
      if (s < steps) load_x(s);
      copy_async_commit();  // the first group also holds every w tile above
    }
    for (int step = 0; step < steps; ++step) {
      copy_async_wait<Stages - 2>();
      __syncthreads();  // this stage has landed, and everyone is done with the one refilled below
      if (step + Stages - 1 < steps) {
        load_w(step + Stages - 1);
        load_x(step + Stages - 1);
      }
      copy_async_commit();
      multiply(stage(step), rows, sum);
    }
  }

  // Calls `use(row, column, even, odd)` for every two neighbouring columns of the tile's result, with those
  // eight columns on beside them: a pair's gate and up where rows of w alternate by eight.
  template <class Use>
  __device__ static void for_each(const Sums& sum, Use use) {
    const int g = int(threadIdx.x % 32) / 4, t = int(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int j = 0; j < kN; j += 2) {
          const float even[2] = {sum[i][j][half * 2], sum[i][j][half * 2 + 1]};
          const float odd[2] = {sum[i][j + 1][half * 2], sum[i][j + 1][half * 2 + 1]};
          use(warp_row() + i * 16 + half * 8 + g, warp_column() + j * 8 + t * 2, even, odd);
        }
      }
    }
  }

  __device__ static void st_shared_two(uint32_t at, const float (&v)[2]) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(v[0]), "f"(v[1]) : "memory");
  }
  __device__ static void ld_shared_two(uint32_t at, float (&v)[2]) {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v[0]), "=f"(v[1]) : "r"(at) : "memory");
  }
  // The same by way of shared memory, in a loop: for what is long, and would be fetched as code once per two
  // columns.
  template <class Use>
  __device__ void for_each_in_loop(const Sums& sum, Use use) const {
    constexpr int kStride = Columns + 8;  // f32
    static_assert(Rows * kStride * 4 <= Stages * kStageBytes);
    copy_async_wait<0>();
    __syncthreads();
    for_each(sum, [&](int row, int column, const float(&even)[2], const float(&odd)[2]) {
      st_shared_two(smem + (row * kStride + column) * 4, even);
      st_shared_two(smem + (row * kStride + column + 8) * 4, odd);
    });
    __syncthreads();
#pragma unroll 1
    for (int item = int(threadIdx.x); item < Rows * Columns / 4; item += kThreads) {
      const int row = item / (Columns / 4), four = item % (Columns / 4),
                column = four / 4 * 16 + four % 4 * 2;
      float even[2], odd[2];
      ld_shared_two(smem + (row * kStride + column) * 4, even);
      ld_shared_two(smem + (row * kStride + column + 8) * 4, odd);
      use(row, column, even, odd);
    }
  }
};

}  // namespace flashrt
