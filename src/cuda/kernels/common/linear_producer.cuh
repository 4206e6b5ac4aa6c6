// The producing warps of the wgmma linear kernel: operands into the ring, and the scales of the tokens.
#pragma once
#include "cuda/kernels/common/linear_schedule.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"

namespace flashrt {

// One thread: both operands of every k block of every tile into the ring. Peers of a cluster each load a
// slice of what they share, for all of them; slices of tokens may overlap.
template <class C>
struct LinearProducer {
  const LinearParams& p;
  const LinearShared<C>& s;
  const LinearPlace& at;
  LinearRange range;
  LinearSchedule tile;
  uint32_t bytes;  // that arrive per stage
  int early;       // k blocks whose weights are requested ahead of the predecessor's results
  __device__ LinearProducer(const LinearParams& params, const LinearShared<C>& shared,
                            const LinearPlace& place)
      : p(params), s(shared), at(place), range(p, at.split), tile(p, at) {
    bytes = C::kTile.rows() * 128 + at.rows * p.token_slice * 128;
    early = tile.done() ? 0 : min(C::kStages, range.count);
  }

  __device__ void load_weights(int stage, int block) const {
    const int slice = C::kTile.rows() / at.tokens, row = tile.row_tile * C::kTile.rows() + at.token * slice;
    uint8_t* dst = s.weights(stage) + at.token * slice * 128;
    const int k = block * 64;
    Mbarrier* bar = s.full(stage);
    if (C::kRows == LinearRows::plain || p.interleaved) {
      if (at.tokens == 1)
        tma_load_2d(dst, &p.weights, bar, k, row);
      else
        tma_load_2d_multicast(dst, &p.weights, bar, k, row, at.token_mask());
      return;
    }
    int group = row >> 4;  // of the first half of the pairs, in 8 rows
    if constexpr (C::kRows == LinearRows::heads) {
      const int head = fast_divide(row, p.head_dim_magic), first = head * p.head_dim;
      group = (first >> 3) + ((row - first) >> 4);
    }
    if (at.tokens == 1)
      tma_load_4d(dst, &p.weights, bar, k, 0, 0, group);
    else
      tma_load_4d_multicast(dst, &p.weights, bar, k, 0, 0, group, at.token_mask());
  }
  __device__ void load_tokens(int stage, int block) const {
    const int first = min(at.row * p.token_slice, C::kTokens - p.token_slice);
    uint8_t* dst = s.tokens(stage) + first * 128;
    const int row = tile.token_tile * C::kTokens + first;
    if (at.rows == 1)
      tma_load_2d(dst, &p.tokens, s.full(stage), block * 64, row);
    else
      tma_load_2d_multicast(dst, &p.tokens, s.full(stage), block * 64, row, at.row_mask());
  }
  __device__ void request_weights() const {
    for (int i = 0; i < early; ++i) {
      mbarrier_arrive_expect_tx(s.full(i), bytes);
      load_weights(i, range.first + i);
    }
  }
  __device__ void run() {
    pdl_wait();
    LinearRing ring;
    for (int ahead = early; !tile.done(); tile.next(p, at), ahead = 0) {
      for (int i = 0; i < range.count; ++i) {
        if (i >= ahead) {
          mbarrier_wait(s.empty(ring.slot), ring.phase ^ 1);
          mbarrier_arrive_expect_tx(s.full(ring.slot), bytes);
          load_weights(ring.slot, range.first + i);
        }
        load_tokens(ring.slot, range.first + i);
        ring.template next<C::kStages>();
      }
    }
  }
};

// Three warps: (rstd, rstd·mean) of every token of the tile, from the partial sums of the producer of x.
template <class C>
__device__ __forceinline__ void linear_token_scales(const LinearParams& p, const LinearShared<C>& s,
                                                    const LinearPlace& at, int warp) {
  pdl_wait();
  const int lane = lane_id();
  uint32_t phase = 0;
  for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at), phase ^= 1) {
    mbarrier_wait(s.scale_empty(), phase ^ 1);
    for (int t = warp * 4 + lane / 8; t < C::kTokens; t += 12) {
      const int row = tile.token_tile * C::kTokens + t;
      float sum = 0.f, squares = 0.f;
      if (row < p.m) {
        const float2* slots =
            reinterpret_cast<const float2*>(p.row_stats) + static_cast<int64_t>(row) * p.row_stat_slots;
        for (int i = lane & 7; i < p.row_stat_slots; i += 8) {
          const float2 v = slots[i];
          sum += v.x;
          squares += v.y;
        }
      }
#pragma unroll
      for (int d = 1; d < 8; d *= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
        squares += __shfl_xor_sync(0xffffffffu, squares, d);
      }
      const float mean = p.column_sum ? sum * p.inverse_width : 0.f;
      const float rstd = rsqrtf(squares * p.inverse_width - mean * mean + p.epsilon);
      if ((lane & 7) == 0) reinterpret_cast<float2*>(s.scales())[t] = make_float2(rstd, rstd * mean);
    }
    __syncwarp();
    if (lane == 0) mbarrier_arrive(s.scale_full());
  }
}

}  // namespace flashrt
