// The producing warps of the wgmma linear kernel: one requests weights, one tokens, two the rotary table.
// What a k block costs them bounds the kernel for narrow tiles: everything but k is computed once per tile.
#pragma once
#include "cuda/kernels/common/linear_schedule.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"

namespace flashrt {

// One thread: the weights of every k block of every tile into the ring, without waiting for the predecessor.
// Blocks that share weight tiles each load a slice for all of them.
template <class C>
struct LinearWeights {
  const LinearParams& p;
  const LinearPlace& at;
  const LinearRange range;
  LinearRing<C> ring;
  uint32_t bytes, offset;  // that arrive per stage, both operands; of this block's slice within the tile
  int slice;               // rows

  __device__ LinearWeights(const LinearParams& params, const LinearShared<C>& s, const LinearPlace& place)
      : p(params), at(place), range(p, at.split), ring(s, p, range.count) {
    slice = C::kTile.rows();
    for (int t = 1; t < at.tokens; t *= 2) slice >>= 1;  // the host admits powers of two
    offset = at.token * slice * 128;
    bytes = C::kDepth * (C::kTile.rows() + at.rows * p.token_slice) * 128;
  }
  // Tile row, or group of 8 rows of the first half of the pairs, where this block's slice begins.
  __device__ int origin(const LinearSchedule& tile) const {
    const int row = tile.row_tile * C::kTile.rows() + at.token * slice;
    if (C::kRows == LinearRows::plain) return row;
    if (C::kRows == LinearRows::pair) return row >> 4;
    const int first = fast_divide(row, p.head_dim_magic) * p.head_dim;
    return (first >> 3) + ((row - first) >> 4);
  }
  template <bool kMulticast>
  __device__ __forceinline__ void load_tile(int y) {
    const uint16_t mask = kMulticast ? at.token_mask() : 0;
    int k = range.first * C::kDepth * 64;
#pragma unroll 1
    for (int left = range.count; left > 0; --left, ring.next()) {
      mbarrier_wait(ring.empty(), ring.phase ^ 1);
      mbarrier_arrive_expect_tx(ring.full(), bytes);
#pragma unroll
      for (int deeper = 0; deeper < C::kDepth; ++deeper, k += 64) {
        const uint32_t to = ring.weights() + offset + deeper * C::kTile.rows() * 128;
        if constexpr (C::kRows == LinearRows::plain) {
          if constexpr (kMulticast)
            tma_load_2d_multicast(to, &p.weights, ring.full(), k, y, mask);
          else
            tma_load_2d(to, &p.weights, ring.full(), k, y);
        } else {
          if constexpr (kMulticast)
            tma_load_4d_multicast(to, &p.weights, ring.full(), k, 0, 0, y, mask);
          else
            tma_load_4d(to, &p.weights, ring.full(), k, 0, 0, y);
        }
      }
    }
  }
  __device__ void run() {
    for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at)) {
      if (at.tokens > 1)
        load_tile<true>(origin(tile));
      else
        load_tile<false>(origin(tile));
    }
  }
};

// One thread: the tokens of every k block, once the predecessor has written them. Slices of peers may
// overlap.
template <class C>
struct LinearTokens {
  const LinearParams& p;
  const LinearPlace& at;
  const LinearRange range;
  LinearRing<C> ring;

  __device__ LinearTokens(const LinearParams& params, const LinearShared<C>& s, const LinearPlace& place)
      : p(params), at(place), range(p, at.split), ring(s, p, range.count) {}
  template <bool kMulticast>
  __device__ __forceinline__ void load_tile(int y, uint32_t offset) {
    const uint16_t mask = kMulticast ? at.row_mask() : 0;
    int k = range.first * C::kDepth * 64;
#pragma unroll 1
    for (int left = range.count; left > 0; --left, ring.next()) {
      mbarrier_wait(ring.empty(), ring.phase ^ 1);
#pragma unroll
      for (int deeper = 0; deeper < C::kDepth; ++deeper, k += 64) {
        const uint32_t to = ring.tokens() + offset + deeper * C::kTokens * 128;
        if constexpr (kMulticast)
          tma_load_2d_multicast(to, &p.tokens, ring.full(), k, y, mask);
        else
          tma_load_2d(to, &p.tokens, ring.full(), k, y);
      }
    }
  }
  __device__ void run() {
    const int first = min(at.row * p.token_slice, C::kTokens - p.token_slice);
    for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at)) {
      if (at.rows > 1)
        load_tile<true>(tile.token_tile * C::kTokens + first, first * 128);
      else
        load_tile<false>(tile.token_tile * C::kTokens + first, first * 128);
    }
  }
};

// Two warps: 1/σ of the tokens of every tile from the partial sums of the producer of x, one thread per
// token, while the others multiply. Most launches give a block one tile of tokens only.
template <class C>
struct LinearScales {
  static constexpr int kThreads = 128 * C::kWarpgroups + 64;  // with the consumers
  static constexpr int kWritten = 8, kRead = 9;               // named barriers
  const LinearParams& p;
  const LinearShared<C>& s;
  const LinearPlace& at;
  const int thread;

  __device__ LinearScales(const LinearParams& params, const LinearShared<C>& shared, const LinearPlace& place,
                          int t)
      : p(params), s(shared), at(place), thread(t) {}
  __device__ __forceinline__ float scale(int token) const {
    const float2* partial = reinterpret_cast<const float2*>(p.row_stats) + min(token, p.m - 1);
    float sum = 0.f, squares = 0.f;
    constexpr int kBatch = C::kRowTiles == 1 ? 16 : 8;  // loads under way at once
#pragma unroll 1
    for (int i = 0; i < p.row_stat_slots; i += kBatch) {
      float2 v[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j)
        v[j] = i + j < p.row_stat_slots ? __ldcg(partial + static_cast<int64_t>(i + j) * p.m)
                                        : make_float2(0.f, 0.f);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        sum += v[j].x;
        squares += v[j].y;
      }
    }
    const float mean = p.centred ? sum * p.inverse_width : 0.f;
    return rsqrtf(squares * p.inverse_width - mean * mean + p.epsilon);
  }
  __device__ __forceinline__ void run() const {
    int scaled = -1;
    for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at)) {
      const int token0 = tile.token_tile * C::kTokens;
      if (token0 == scaled) continue;
      if (scaled >= 0) named_barrier_sync(kRead, kThreads);
      scaled = token0;
      for (int t = thread; t < C::kTokens; t += 64) st_shared_f1(s.scales() + 4 * t, scale(token0 + t));
      __syncwarp();
      named_barrier_arrive(kWritten, kThreads);
    }
  }
};

// One thread, before the block's (or the cluster's) first barrier.
template <class C>
__device__ __forceinline__ void linear_init_barriers(const LinearParams& p, const LinearShared<C>& s,
                                                     const LinearPlace& at) {
  for (int i = 0; i < p.stages; ++i) {
    mbarrier_init(s.full(i), 1);
    mbarrier_init(s.empty(i), 4 * C::kWarpgroups * at.peers());
  }
  mbarrier_init(s.split_ready(), max(1, 4 * C::kWarpgroups * (p.split - 1)));
  const int groups = min(p.split_groups, max(0, C::kGroups - at.split * p.split_groups));
  for (int i = 0; i < C::kWarpgroups; ++i) {
    mbarrier_init(s.split_sums(i), 1);
    mbarrier_arrive_expect_tx(s.split_sums(i), (p.split - 1) * groups * kLinearSumBytes<C>);
  }
  fence_barrier_init();
}

// Two warps: the rows of the rotary table that the tiles will ask for, into L2.
template <class C>
__device__ __forceinline__ void linear_fetch_angles(const LinearParams& p, const LinearPlace& at,
                                                    int thread) {
  const int position = p.position ? *p.position : 0, half = p.head_dim >> 1;
  for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at)) {
    const int row = tile.row_tile * C::kTile.rows(), head = fast_divide(row, p.head_dim_magic);
    if (head >= p.query_heads + p.kv_heads) continue;
    const float2* column = reinterpret_cast<const float2*>(p.rotary) + ((row - head * p.head_dim) >> 1);
    for (int t = thread; t < C::kTokens; t += 64) {
      const int token = min(tile.token_tile * C::kTokens + t, p.m - 1);
      const float2* from = column + static_cast<int64_t>(position + token) * half;
      for (int i = 0; i < C::kTile.rows() / 2; i += 16)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(from + i) : "memory");
    }
  }
}

}  // namespace flashrt
