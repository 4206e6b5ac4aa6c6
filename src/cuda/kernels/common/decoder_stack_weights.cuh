// The weights of the persistent decoder stack: which of them a block needs, their way through a ring of
// stages in shared memory, and the warp that loads them in the order of use.
#pragma once
#include "cuda/kernels/common/decoder_stack_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/uniform.cuh"

namespace flashrt {

constexpr int kGroup = 128, kWorkers = 256;  // threads of a warpgroup; of both that compute
constexpr int kThreads = kWorkers + 128;     // a warp that loads weights, two for the statistics of rows
constexpr int kMaxStages = 12;

struct StackRole {
  int block;

  __device__ int tile() const { return block >> 3; }  // of the residual stream, in out and down
  __device__ int split() const { return block & 7; }
  __device__ int head() const { return block & 7; }  // of the attention unit, and of the merge
  __device__ int chunk() const { return block >> 3; }
  __device__ bool has_qkv() const { return block * 5 % 8 < 5; }
  __device__ int qkv_tile() const { return block * 5 >> 3; }
  __device__ int qkv_head() const { return qkv_tile() >> 3; }
};

// As its readers see it.
struct StackRing {
  uint8_t* stages;
  Mbarrier *full, *empty;
  int count;
  int slot = 0;        // the next one to read
  uint32_t phase = 0;  // its parity

  __device__ int slot_of(int i) const { return slot + i >= count ? slot + i - count : slot + i; }
  __device__ uint32_t phase_of(int i) const { return slot + i >= count ? phase ^ 1 : phase; }
  __device__ void advance(int by) {
    slot += by;
    if (slot >= count) slot -= count, phase ^= 1;
  }
  // Every warp does, after it has read what it needs of them.
  __device__ __forceinline__ void release(int by) {
    __syncwarp();
    if (const int i = static_cast<int>(lane_id()); i < by) mbarrier_arrive(&empty[slot_of(i)]);
    advance(by);
  }
};

// Every load of all layers; one thread.
__device__ __forceinline__ void stack_produce(const DecoderStackParams& p, const StackRole& role,
                                              const StackRing& ring) {
  int at_slot = 0, chunks = 0;
  uint32_t free_phase = 1;
  long long due = clock64();
  const int pace = role.has_qkv() ? p.pace * 5 / 6 : p.pace;
  const auto next = [&](auto&& load) {  // load(destination, barrier) issues a stage
    mbarrier_wait(&ring.empty[at_slot], free_phase);
    while (clock64() < due) {
    }
    due = max(due, clock64() - pace) + pace;
    mbarrier_arrive_expect_tx(&ring.full[at_slot], kStackStageBytes);
    load(ring.stages + at_slot * kStackStageBytes, &ring.full[at_slot]);
    if (++at_slot == ring.count) at_slot = 0, free_phase ^= 1;
  };
  const int qkv_group = role.qkv_head() * (kStackHeadDim / 8) + (role.qkv_tile() & 7) * 2;
#pragma unroll 1
  for (int layer = 0; layer < p.layer_count; ++layer) {
    const StackLayer* l = p.layers + layer;
    if (role.has_qkv()) {
#pragma unroll 1
      for (int k = 0; k < kStackWidth; k += 256)
        next([&](uint8_t* to, Mbarrier* bar) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            tma_load_4d(to + i * 4096, &l->qkv, bar, k + i * 64, 0, 0, qkv_group, L2Hint::evict_first);
        });
    }
    if (layer == 0) {
      pdl_wait();
      chunks = (__ldcg(p.position) + p.rows + 63) >> 6;
    }
    if (role.chunk() < chunks) {
#pragma unroll 1
      for (int i = 0; i < 4; ++i)
        next([&](uint8_t* to, Mbarrier* bar) {
          const CUtensorMap* map = i < 2 ? &l->keys : &l->values;
          tma_load_2d(to, map, bar, (i & 1) * 128, role.chunk() * 64, L2Hint::evict_last);
          tma_load_2d(to + 8192, map, bar, (i & 1) * 128 + 64, role.chunk() * 64, L2Hint::evict_last);
        });
    }
    const auto slice = [&](const CUtensorMap* map, int k0, int count) {
#pragma unroll 1
      for (int k = k0; k < k0 + count; k += 128)
        next([&](uint8_t* to, Mbarrier* bar) {
          tma_load_2d(to, map, bar, k, role.tile() * 64, L2Hint::evict_first);
          tma_load_2d(to + 8192, map, bar, k + 64, role.tile() * 64, L2Hint::evict_first);
        });
    };
    slice(&l->out, role.split() * kStackHeadDim, kStackHeadDim);
#pragma unroll 1
    for (int k = 0; k < kStackWidth; k += 128)
      next([&](uint8_t* to, Mbarrier* bar) {
        tma_load_4d(to, &l->gate_up, bar, k, 0, 0, role.block * 4, L2Hint::evict_first);
        tma_load_4d(to + 8192, &l->gate_up, bar, k + 64, 0, 0, role.block * 4, L2Hint::evict_first);
      });
    slice(&l->down, role.split() * (kStackMlp / kStackSplits), kStackMlp / kStackSplits);
  }
}

}  // namespace flashrt
