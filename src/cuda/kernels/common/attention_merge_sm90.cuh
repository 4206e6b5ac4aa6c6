// Merges the partial attention results of the blocks of a cluster, and writes the output rows. Output columns
// are handled in units of 16; every block owns some units and receives the other blocks' parts of them.
#pragma once
#include "cuda/kernels/common/attention_sm90.cuh"

namespace flashrt {

// Where the thread's two rows go, and whether they exist.
struct OutputRows {
  __nv_bfloat16* row[2];
  bool valid[2];
  __device__ __forceinline__ void store(int u, const float* x, const float (&scale)[2]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float* y = x + 2 * h;
      store_columns16(row[h] + 16 * u, valid[h], pack2<__nv_bfloat16>(y[0] * scale[h], y[1] * scale[h]),
                      pack2<__nv_bfloat16>(y[4] * scale[h], y[5] * scale[h]));
    }
  }
};

// Split `owner_of(u)` of N merges and writes unit u of U; first_unit(i) is the first unit of split i.
template <int U, int N>
__device__ __forceinline__ constexpr int owner_of(int u) {
  return u * N / U;
}
template <int U, int N>
__device__ __forceinline__ constexpr int first_unit(int split) {
  return (split * U + N - 1) / N;
}

// Sends the units that other splits own (in bf16: the cluster's network is the slowest link of the kernel),
// receives the other splits' parts of ours, adds them in the order of the splits, and writes. The merge area
// lies over q and the key ring, dead in every block after the cluster barrier.
template <int V, int kThreads, int N>
__device__ __forceinline__ void merge_splits(const float (&o)[V / 2], const SoftmaxRows& rows, int split,
                                             uint8_t* area, Mbarrier* arrived, const OutputRows& out) {
  constexpr int U = V / 16, kMost = (U + N - 1) / N;
  constexpr int kPlane = kThreads * 16;  // a unit: 16 bytes per thread
  constexpr int kSlot = kMost * kPlane;  // a sender's part
  constexpr auto pack = pack2<__nv_bfloat16>;
  uint8_t* mine = area + threadIdx.x * 16;
  uint8_t* cells = area + (N - 1) * kSlot + threadIdx.x / 4 * 16;  // (top, sum) of two rows, [split][quad]
  constexpr int kCells = kThreads / 4 * 16;
#pragma unroll
  for (int to = 0; to < N; ++to) {
    if (to == split || first_unit<U, N>(to) == first_unit<U, N>(to + 1)) continue;
    const uint32_t bar = map_to_rank(smem_u32(arrived), to);
    const uint32_t part = map_to_rank(smem_u32(mine), to) + (split < to ? split : split - 1) * kSlot;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (owner_of<U, N>(u) != to) continue;
      const float* x = o + 8 * u;
      st_async_b128(out.valid[0], part + (u - first_unit<U, N>(to)) * kPlane, bar,
                    make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])));
    }
    st_async_b128(out.valid[0] && (threadIdx.x & 3) == (to & 3),
                  map_to_rank(smem_u32(cells), to) + split * kCells, bar,
                  make_uint4(__float_as_uint(rows.top[0]), __float_as_uint(rows.sum[0]),
                             __float_as_uint(rows.top[1]), __float_as_uint(rows.sum[1])));
  }
  mbarrier_wait_cluster(arrived, 0);

  float weight[N][2], best[2] = {rows.top[0], rows.top[1]}, scale[2];
  float4 cell[N];
#pragma unroll
  for (int from = 0; from < N; ++from) {
    cell[from] = make_float4(rows.top[0], rows.sum[0], rows.top[1], rows.sum[1]);
    if (from != split && out.valid[0]) cell[from] = *reinterpret_cast<const float4*>(cells + from * kCells);
    best[0] = fmaxf(best[0], cell[from].x);
    best[1] = fmaxf(best[1], cell[from].z);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (best[h] == -INFINITY) best[h] = 0.f;
    float sum = 0.f;
#pragma unroll
    for (int from = 0; from < N; ++from) {
      weight[from][h] = exp2_fast((h ? cell[from].z : cell[from].x) - best[h]);
      sum += weight[from][h] * (h ? cell[from].w : cell[from].y);
    }
    scale[h] = sum > 0.f ? __fdividef(1.f, sum) : 0.f;
  }
#pragma unroll
  for (int own = 0; own < N; ++own) {
    if (own != split) continue;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (owner_of<U, N>(u) != own) continue;
      float sum[8] = {};
#pragma unroll
      for (int from = 0; from < N; ++from) {
        float x[8];
        if (from == own) {
#pragma unroll
          for (int i = 0; i < 8; ++i) x[i] = o[8 * u + i];
        } else {
          const uint4 y = *reinterpret_cast<const uint4*>(mine + (from < own ? from : from - 1) * kSlot +
                                                          (u - first_unit<U, N>(own)) * kPlane);
          const uint32_t pairs[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float2 z = unpack2<__nv_bfloat16>(pairs[i]);
            x[2 * i] = z.x, x[2 * i + 1] = z.y;
          }
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += weight[from][i >> 1 & 1] * x[i];
      }
      out.store(u, sum, scale);
    }
  }
}

// Bytes that `rows` valid rows bring to a block: 16 per owned unit and thread whose first row is valid, and
// one pair of (top, sum) per quad of such threads.
__device__ __forceinline__ uint32_t merge_bytes(int units, int split, int splits, int rows) {
  const int begin = (split * units + splits - 1) / splits, end = ((split + 1) * units + splits - 1) / splits;
  const int quads = rows / 16 * 8 + min(rows % 16, 8);
  return end > begin ? (splits - 1) * quads * ((end - begin) * 64 + 16) : 0;
}

}  // namespace flashrt
