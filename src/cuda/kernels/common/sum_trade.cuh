// Two warpgroups that share the k of a product of 64 rows exchange what the other one goes on with.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

constexpr uint32_t kTradeBarrier = 1;

struct SumTrade {
  uint8_t* box;       // 32 KB of shared memory
  int thread, group;  // of 256; of 2
  int turn = 0;       // of the halves of the box

  // The warpgroups exchange halves of their sums. Two boxes take turns: who writes one again has met a
  // barrier that its reader reached later.
  __device__ float4* box_of(int g) const {
    return reinterpret_cast<float4*>(box) + ((turn * 2 + g) * 4) * 128 + (thread & 127);
  }
  // Each warpgroup goes on with half of the columns …
  template <int N>
  __device__ __forceinline__ void trade(const float (&d)[N / 2], float (&own)[N / 4]) {
    constexpr int kHalf = N / 16;  // blocks of 8 columns
    float4* to = box_of(group);
    const float4* from = box_of(group ^ 1);
    const auto give = [&](int i, int j) {
      to[i * 128] = make_float4(d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]);
    };
    const auto take = [&](int i, int j) {
      const float4 v = from[i * 128];
      own[4 * i] = d[4 * j] + v.x, own[4 * i + 1] = d[4 * j + 1] + v.y;
      own[4 * i + 2] = d[4 * j + 2] + v.z, own[4 * i + 3] = d[4 * j + 3] + v.w;
    };
    if (group == 0) {
#pragma unroll
      for (int i = 0; i < kHalf; ++i) give(i, kHalf + i);
    } else {
#pragma unroll
      for (int i = 0; i < kHalf; ++i) give(i, i);
    }
    traded();
    if (group == 0) {
#pragma unroll
      for (int i = 0; i < kHalf; ++i) take(i, i);
    } else {
#pragma unroll
      for (int i = 0; i < kHalf; ++i) take(i, kHalf + i);
    }
  }
  // … or with row lane/4 + 8·group of 16: own[2j], own[2j + 1] of block j of columns.
  __device__ __forceinline__ void trade_rows(const float (&d)[32], float (&own)[16]) {
    float4* to = box_of(group);
    const float4* from = box_of(group ^ 1);
    const bool second = group == 1;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to[i * 128] = second ? make_float4(d[8 * i], d[8 * i + 1], d[8 * i + 4], d[8 * i + 5])
                           : make_float4(d[8 * i + 2], d[8 * i + 3], d[8 * i + 6], d[8 * i + 7]);
    traded();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 v = from[i * 128];
      own[4 * i] = (second ? d[8 * i + 2] : d[8 * i]) + v.x;
      own[4 * i + 1] = (second ? d[8 * i + 3] : d[8 * i + 1]) + v.y;
      own[4 * i + 2] = (second ? d[8 * i + 6] : d[8 * i + 4]) + v.z;
      own[4 * i + 3] = (second ? d[8 * i + 7] : d[8 * i + 5]) + v.w;
    }
  }
  __device__ __forceinline__ void traded() {
    meet();
    turn ^= 1;
  }
  __device__ __forceinline__ void meet() const { named_barrier_sync(kTradeBarrier, 256); }
};

}  // namespace flashrt
