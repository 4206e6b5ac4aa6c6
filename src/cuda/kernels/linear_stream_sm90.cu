// Linear layers for 1 … 64 rows, bound by reading the weights once. Weights are the wgmma A operand, straight
// from a TMA ring in shared memory; activations are B. A cluster of blocks splits k of a 64-row weight tile
// and adds the f32 partials through distributed shared memory in a fixed order. Weight loads never wait for
// the predecessor kernel: successive kernels overlap through programmatic dependent launch.
#include "cuda/kernels/common/linear_stream_epilogue.cuh"
#include "cuda/kernels/common/linear_stream_stage.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/wgmma.cuh"

namespace flashrt {
namespace {

template <int N, int RowGroups>
constexpr int kEpilogueWarpsFor = N <= 16 || RowGroups == 2 ? 4 : 8;

// One look, without waiting.
__device__ __forceinline__ bool mbarrier_peek(Mbarrier* bar, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(smem_u32(bar)), "r"(parity)
      : "memory");
  return done != 0;
}

// The barriers were published by fence_barrier_init; nothing else needs the (expensive) release.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

struct Barriers {
  Mbarrier x_full, slots_full[2], slots_free[2], full[32], empty[32];
};

// Rows of w that form the two halves of a tile: gate and up, or the two halves of a rotary pair.
template <StreamEpilogue Mode, int Half>
__device__ __forceinline__ int2 tile_rows(const LinearStreamParams& p, int tile) {
  if constexpr (Mode == StreamEpilogue::pair) return {tile * Half, p.n / 2 + tile * Half};
  if constexpr (Mode == StreamEpilogue::qkv) {
    const int head = tile >> p.tiles_per_head_shift;
    const int row = head * p.head_dim + (tile - (head << p.tiles_per_head_shift)) * Half;
    return {row, row + p.head_dim / 2};
  }
  return {tile * 2 * Half, tile * 2 * Half + Half};
}

// One lane: fills the ring, then (without a prologue) loads the activations, then keeps the ring full.
template <int N, StreamEpilogue Mode, int RowGroups>
__device__ __forceinline__ void produce(const LinearStreamParams& p, int cluster, int kb_first, int kb_count,
                                        uint8_t* smem, Barriers* bars) {
  constexpr int kHalf = 32 * RowGroups, kStageBytes = kHalf * 2 * 128;
  constexpr bool kPaired = Mode == StreamEpilogue::pair || Mode == StreamEpilogue::qkv;
  int issued = 0, stage = 0;
  uint32_t phase = 1;
  if (p.trigger == 0) pdl_launch();
  const auto activations = [&] {
    pdl_wait();
    if (p.norm_scale != nullptr) return;
    mbarrier_arrive_expect_tx(&bars->x_full, kb_count * N * 128);
#pragma unroll 1
    for (int kb = 0; kb < kb_count; ++kb)
      tma_load_2d(smem + p.xs_at + kb * N * 128, &p.x, &bars->x_full, (kb_first + kb) * 64, 0);
  };
  bool waited = false;
#pragma unroll 1
  for (int tile = cluster; tile < p.tiles; tile += p.clusters) {
    const int2 rows = tile_rows<Mode, kHalf>(p, tile);
#pragma unroll 1
    for (int kb = 0; kb < kb_count; ++kb) {
      if (issued >= p.stages) {
        if (!waited) {
          for (int next = kb; next < min(kb_count, kb + p.stages);
               ++next) {  // the rest of this tile waits in L2
            tma_prefetch_2d(&p.w, (kb_first + next) * 64, rows.x);
            if constexpr (kPaired) tma_prefetch_2d(&p.w, (kb_first + next) * 64, rows.y);
          }
          activations(), waited = true;
        }
        mbarrier_wait(&bars->empty[stage], phase);
      }
      mbarrier_arrive_expect_tx(&bars->full[stage], kStageBytes);
      uint8_t* dst = smem + stage * kStageBytes;
      const int k0 = (kb_first + kb) * 64;
      tma_load_2d(dst, &p.w, &bars->full[stage], k0, rows.x, L2Hint::evict_first);
      if constexpr (kPaired)
        tma_load_2d(dst + kStageBytes / 2, &p.w, &bars->full[stage], k0, rows.y, L2Hint::evict_first);
      if (++issued == p.trigger) pdl_launch();
      if (++stage == p.stages) stage = 0, phase ^= 1;
    }
  }
  if (!waited) activations();
  if (p.trigger > issued) pdl_launch();
}

__device__ __forceinline__ void st_shared_f2(uint32_t addr, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(addr), "f"(a), "f"(b) : "memory");
}
__device__ __forceinline__ void st_async_f2(uint32_t addr, float a, float b, uint32_t bar) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(addr),
      "f"(a), "f"(b), "r"(bar)
      : "memory");
}

// Sends this thread's accumulators to the blocks that own their token pairs: pair q belongs to rank q %
// splits. Alone in its cluster, a block stores to itself and every thread arrives at the barrier.
template <int N>
__device__ __forceinline__ void push_partials(const LinearStreamParams& p, const float (&d)[N / 2],
                                              uint32_t slots, Mbarrier* barrier, int features) {
  const int mask = (1 << p.split_shift) - 1;
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
    const int pair = 4 * j + lane_id() % 4;
    if (2 * pair < p.m) {
      const uint32_t to = slots + (pair >> p.split_shift) * features * 8;
      if (mask == 0) {
        st_shared_f2(to, d[4 * j], d[4 * j + 1]);
        st_shared_f2(to + 64, d[4 * j + 2], d[4 * j + 3]);
      } else {
        const uint32_t bar = map_to_rank(smem_u32(barrier), pair & mask), dst = map_to_rank(to, pair & mask);
        st_async_f2(dst, d[4 * j], d[4 * j + 1], bar);
        st_async_f2(dst + 64, d[4 * j + 2], d[4 * j + 3], bar);
      }
    }
  }
  if (mask == 0) mbarrier_arrive(barrier);
}

// RowGroups matrix warpgroups, each on its own 64 rows of the tile.
template <int N, StreamEpilogue Mode, int RowGroups>
__device__ __forceinline__ void stream_linear(const LinearStreamParams& p) {
  constexpr int kHalf = 32 * RowGroups, kFeatures = 2 * kHalf, kStageBytes = kFeatures * 128;
  constexpr int kMatrixWarps = 4 * RowGroups, kEpilogueWarps = kEpilogueWarpsFor<N, RowGroups>,
                kStagers = kMatrixWarps + kEpilogueWarps;

  extern __shared__ __align__(1024) uint8_t smem[];
  Barriers* bars = reinterpret_cast<Barriers*>(smem + p.barriers_at);
  const int warp = warp_id(), lane = lane_id();
  const int splits = 1 << p.split_shift, rank = blockIdx.x & (splits - 1),
            cluster = blockIdx.x >> p.split_shift;
  const int kb_first = rank * p.kb_split, kb_count = min(p.kb_split, p.kb_total - kb_first);

  if (warp == kStagers) {
    if (lane < p.stages) {
      mbarrier_init(&bars->full[lane], 1);
      mbarrier_init(&bars->empty[lane], kMatrixWarps);
    }
    if (lane < 2) {
      mbarrier_init(&bars->slots_full[lane], splits == 1 ? 1 + kMatrixWarps * 32 : 1);
      mbarrier_init(&bars->slots_free[lane], min(splits, (p.m + 1) / 2));  // the blocks that own pairs
    }
    if (lane == 0) mbarrier_init(&bars->x_full, p.norm_scale == nullptr ? 1 : kStagers);
    fence_barrier_init();
    __syncwarp();
    named_barrier_arrive(1, (kStagers + 1) * 32);
    cluster_arrive_relaxed();
    if (elect_one()) produce<N, Mode, RowGroups>(p, cluster, kb_first, kb_count, smem, bars);
    __syncwarp();
    cluster_wait();
    return;
  }

  float* vectors = reinterpret_cast<float*>(smem + p.vectors_at);
  if (p.norm_scale != nullptr)
    stage_vectors(p, kb_first * 64, kb_count * 64, vectors + 64, threadIdx.x, kStagers * 32);
  named_barrier_sync(1, (kStagers + 1) * 32);
  cluster_arrive_relaxed();
  cluster_wait();  // every block of the cluster has its barriers; before the dependency, where there is time
  const auto stage = [&] {
    if (p.norm_scale == nullptr) return;
    pdl_wait();
    stage_normalised<N, kStagers>(p, kb_first * 64, kb_count, smem + p.xs_at, vectors, warp);
    fence_proxy_async();
    __syncwarp();
    if (elect_one()) mbarrier_arrive(&bars->x_full);
  };

  const int source_bytes = p.pairs_max * kFeatures * 8;
  if (warp < kMatrixWarps) {
    stage();
    const int row_group = warp / 4;
    const uint64_t a0 = descriptor_k_major(smem_u32(smem) + row_group * 8192);
    const uint64_t b0 = descriptor_k_major(smem_u32(smem + p.xs_at));
    const uint32_t slots =
        smem_u32(smem + p.slots_at) + rank * source_bytes + (row_group * 64 + warp % 4 * 16 + lane / 4) * 8;
    const int loads = ((p.tiles - cluster - 1) / p.clusters + 1) * kb_count;
    int at = 0, local = 0, done = 0;
    uint32_t phase = 0;
    mbarrier_wait(&bars->x_full, 0);
#pragma unroll 1
    for (int tile = cluster; tile < p.tiles; tile += p.clusters, ++local) {
      float d[N / 2];
      int previous = -1;
      bool ready = false;
#pragma unroll 1
      for (int kb = 0; kb < kb_count; ++kb, ++done) {
        if (!ready) mbarrier_wait(&bars->full[at], phase);
        const uint64_t a = a0 + at * (kStageBytes >> 4), b = b0 + kb * (N * 128 >> 4);
        const int current = at;
        if (++at == p.stages) at = 0, phase ^= 1;
        ready = mbarrier_peek(&bars->full[at], phase);  // the next load, while this one multiplies
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; ++i)
          wgmma_ss<N>(d, a + i * kDescriptorNextK, b + i * kDescriptorNextK, (kb | i) != 0);
        wgmma_commit();
        if (done + p.stages <= loads) {  // the ring will need the previous stage again
          wgmma_wait<1>();
          if (previous >= 0 && elect_one()) mbarrier_arrive(&bars->empty[previous]);
        }
        previous = current;
      }
      wgmma_wait<0>();
      wgmma_pin(d);
      if (done + p.stages <= loads && elect_one()) mbarrier_arrive(&bars->empty[previous]);
      const int buffer = local & 1;
      if (local >= 2) mbarrier_wait_cluster(&bars->slots_free[buffer], (local / 2 - 1) & 1);
      push_partials<N>(p, d, slots + buffer * splits * source_bytes, &bars->slots_full[buffer], kFeatures);
    }
    if (p.clusters < p.tiles) return;
    pdl_wait();
  }

  // Epilogue: its warps share the token pairs that this block owns; the matrix warps join them when they have
  // no other tile to go on with.
  using Unit = FinishUnit<Mode, kHalf>;
  const bool matrix = warp < kMatrixWarps;
  const int ewarp = matrix ? kEpilogueWarps + warp : warp - kMatrixWarps;
  const int finishers = p.clusters < p.tiles ? kEpilogueWarps : kStagers;
  const int pairs_owned = ((p.m + 1) / 2 - rank + splits - 1) >> p.split_shift;
  const int units = pairs_owned * 2 * Unit::kUnits;
  const bool leader = ewarp == 0 && lane == 0 && pairs_owned > 0;
  const uint32_t expected = splits == 1 ? 0 : pairs_owned * splits * kFeatures * 8;  // bytes of st.async
  if (leader) {
    mbarrier_arrive_expect_tx(&bars->slots_full[0], expected);
    mbarrier_arrive_expect_tx(&bars->slots_full[1], expected);
  }
  if (!matrix) {
    stage();
    pdl_wait();
  }
  int local = 0;
#pragma unroll 1
  for (int tile = cluster; tile < p.tiles; tile += p.clusters, ++local) {
    const int buffer = local & 1;
    const Partials partials{
        reinterpret_cast<const float*>(smem + p.slots_at + buffer * splits * source_bytes),
        p.pairs_max * kFeatures * 2, splits, &bars->slots_full[buffer],
        static_cast<uint32_t>(local >> 1 & 1)};
    constexpr bool kSums =
        Mode == StreamEpilogue::residual;  // a warp takes both halves of a row's 64 columns
    constexpr int kBatch = N <= 16 && !kSums ? 1 : 2;
    const int apart = kSums ? 1 : finishers;
#pragma unroll 1
    for (int unit = kSums ? kBatch * ewarp : ewarp; unit < units; unit += finishers * kBatch) {
      Unit work[kBatch];
      float value[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) work[i].request(p, tile, unit + i * apart, units, rank);
      partials.wait();
#pragma unroll
      for (int i = 0; i < kBatch; ++i) value[i] = work[i].finish(p, partials);
      if constexpr (kSums) work[0].store_sums(p, tile, value[0], value[1]);
    }
    if (tile + 2 * p.clusters < p.tiles && pairs_owned > 0) {  // the buffer will be used again
      named_barrier_sync(2, kEpilogueWarps * 32);
      if (leader) mbarrier_arrive_expect_tx(&bars->slots_full[buffer], expected);
      __syncwarp();
      if (splits == 1 && leader) mbarrier_arrive(&bars->slots_free[buffer]);
      if (splits > 1 && ewarp == 0 && lane < splits) mbarrier_arrive_remote(&bars->slots_free[buffer], lane);
    }
  }
}

}  // namespace

#define FLASHRT_STREAM(N, mode, groups)                                                              \
  extern "C" __global__ void __launch_bounds__((groups * 4 + kEpilogueWarpsFor<N, groups> + 1) * 32, \
                                               (N <= 16 && groups == 1) ? 3 : 2)                     \
      linear_stream_##mode##_n##N##_r##groups(const __grid_constant__ LinearStreamParams p) {        \
    stream_linear<N, StreamEpilogue::mode, groups>(p);                                               \
  }
#define FLASHRT_STREAM_MODES(N)  \
  FLASHRT_STREAM(N, plain, 1)    \
  FLASHRT_STREAM(N, residual, 1) \
  FLASHRT_STREAM(N, pair, 1)     \
  FLASHRT_STREAM(N, qkv, 1)
FLASHRT_STREAM_MODES(8)
FLASHRT_STREAM_MODES(16)
FLASHRT_STREAM_MODES(32)
FLASHRT_STREAM_MODES(56)
FLASHRT_STREAM_MODES(64)
FLASHRT_STREAM(16, pair, 2)
FLASHRT_STREAM(32, pair, 2)
FLASHRT_STREAM(56, pair, 2)
FLASHRT_STREAM(64, pair, 2)

}  // namespace flashrt
