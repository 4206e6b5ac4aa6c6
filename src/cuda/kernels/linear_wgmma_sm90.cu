// y = epilogue(x · wᵀ) for some hundred tokens: weights on wgmma's M (64 rows), tokens on its N (exact tiles
// of 8·i). One warp streams both operands by TMA into a ring of 64-wide k blocks; two or three warpgroups
// multiply. Blocks of a cluster share operands by multicast, or share the k range of one tile and add their
// sums in a fixed order.
#include "cuda/kernels/common/linear_epilogue.cuh"
#include "cuda/kernels/common/linear_instances.h"
#include "cuda/kernels/common/linear_producer.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/wgmma.cuh"

namespace flashrt {
namespace {

template <class C>
using Output = LinearOutput<typename C::T, C::kRows, C::kTile.chunk_tokens()>;

// One warpgroup (64 · kRowTiles rows of every tile) from the ring to global memory.
template <class C>
struct Consumer {
  using T = typename C::T;
  using Out = Output<C>;
  const LinearParams& p;
  const LinearShared<C>& s;
  const LinearPlace& at;
  const LinearSteps steps;
  const int warpgroup, lane, barrier;
  const bool chief;         // the thread that stores
  int first, last, chunks;  // token groups that this block of the split finishes, in so many chunks
  int count;                // k blocks
  int release_to;           // cluster rank that this lane tells of free slots, or -1
  int position = 0;
  LinearRing ring;
  typename C::Accumulators acc;

  __device__ Consumer(const LinearParams& params, const LinearShared<C>& shared, const LinearPlace& place,
                      int group)
      : p(params),
        s(shared),
        at(place),
        steps(params),
        warpgroup(group),
        lane(lane_id()),
        barrier(1 + group),
        chief((threadIdx.x & 127) == 0) {
    first = at.split * p.split_groups;
    last = min(first + p.split_groups, C::kGroups);
    constexpr int kChunk = C::kChunkGroups;
    chunks = first < last ? (last + kChunk - 1) / kChunk - first / kChunk : 0;
    count = LinearRange(p, at.split).count;
    release_to = lane < at.peers() ? at.peer(lane) : -1;
  }
  __device__ __forceinline__ void sync() const { named_barrier_sync(barrier, 128); }
  __device__ __forceinline__ void release(int slot) const {
    if (at.peers() == 1) {
      if (lane == 0) mbarrier_arrive(s.empty(slot));
    } else if (release_to >= 0) {
      mbarrier_arrive_remote(s.empty(slot), release_to);
    }
  }
  // The staging buffers: the stores of the previous tile have read them.
  __device__ __forceinline__ void claim_staging() const {
    if (chief) bulk_wait_read<0>();
    sync();
  }

  // acc = the tile's weights · tokensᵀ over this block's k blocks.
  __device__ __forceinline__ void multiply() {
    int previous = 0;
    for (int block = 0; block < count; ++block) {
      mbarrier_wait(s.full(ring.slot), ring.phase);
      const uint64_t a = descriptor_k_major(smem_u32(s.weights(ring.slot)) + warpgroup * C::kRowTiles * 8192);
      const uint64_t b = descriptor_k_major(smem_u32(s.tokens(ring.slot)));
      if (block == 0) {
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
      }
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i)
          wgmma_ss<C::kTokens, false, T>(acc[i], a + i * (8192 >> 4) + k * kDescriptorNextK,
                                         b + k * kDescriptorNextK, k > 0 || block > 0);
      }
      wgmma_commit();
      if (block > 0) {
        wgmma_wait<1>();
        release(previous);
      } else if (!steps.has(LinearSteps::residual)) {
        claim_staging();
      }
      previous = ring.slot;
      ring.template next<C::kStages>();
    }
    wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
    release(previous);
  }

  // The blocks of a split tile exchange partial sums through their (idle) rings: block i of the split
  // finishes token groups i·split_groups …; it adds what the others sent, in rank order, to its own.
  __device__ __forceinline__ void reduce_split() {
    const auto signal = [&](Mbarrier* bar, auto arrive) {
      if (lane < p.split && lane != at.split) arrive(bar, at.rank_of(lane, at.token, at.row));
    };
    signal(s.split_ready(), [](Mbarrier* bar, int rank) { mbarrier_arrive_remote(bar, rank); });
    mbarrier_wait_cluster(s.split_ready(), 0);
    constexpr int kStep =
        C::kRowTiles * 2048;  // one group of one warpgroup: 16 bytes of each thread, per row tile
    const uint32_t base = smem_u32(s.base) + (threadIdx.x & 127) * 16 + warpgroup * p.split_groups * kStep;
    const int sender_pitch = C::kWarpgroups * p.split_groups * kStep;
    for (int owner = 0; owner < p.split; ++owner) {
      if (owner == at.split) continue;
      const int begin = owner * p.split_groups, end = begin + p.split_groups;
      const int sender = at.split < owner ? at.split : at.split - 1;
      const uint32_t to =
          map_to_rank(base + sender * sender_pitch, at.rank_of(owner, at.token, at.row)) - begin * kStep;
#pragma unroll
      for (int g = 0; g < C::kGroups; ++g) {
        if (g < begin || g >= end) continue;
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) {
          const float* v = acc[i] + 4 * g;
          st_cluster_f4(to + g * kStep + i * 2048, make_float4(v[0], v[1], v[2], v[3]));
        }
      }
    }
    __syncwarp();
    signal(s.split_sums(), [](Mbarrier* bar, int rank) { mbarrier_arrive_remote_release(bar, rank); });
    mbarrier_wait_cluster(s.split_sums(), 0);
    for (int sender = 0; sender < p.split - 1; ++sender) {
      const uint32_t from = base + sender * sender_pitch - first * kStep;
#pragma unroll
      for (int g = 0; g < C::kGroups; ++g) {
        if (g < first || g >= last) continue;
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) {
          const uint4 v = ld_shared_16(from + g * kStep + i * 2048);
          acc[i][4 * g] += __uint_as_float(v.x);
          acc[i][4 * g + 1] += __uint_as_float(v.y);
          acc[i][4 * g + 2] += __uint_as_float(v.z);
          acc[i][4 * g + 3] += __uint_as_float(v.w);
        }
      }
    }
  }

  // One chunk of tokens of one accumulator tile, the number-th of this block: arithmetic, transposition,
  // store. Groups outside [first, last) belong to other blocks of the split: their values are meaningless and
  // not stored.
  template <int kChunk>
  __device__ __forceinline__ void finish_chunk(const Out& out, float* values, int number) const {
    constexpr int kFirst = C::kChunkGroups * kChunk;
    constexpr int kCount = C::kGroups - kFirst < C::kChunkGroups ? C::kGroups - kFirst : C::kChunkGroups;
    const int begin = max(first - kFirst, 0), end = min(last - kFirst, kCount);
    const uint32_t buffer = s.staging(warpgroup, number & 1);
    const auto each = [&](auto step) {
#pragma unroll
      for (int g = 0; g < kCount; ++g) step(g, values + 4 * (kFirst + g));
    };
    float2 angle[C::kRows == LinearRows::heads ? kCount : 1][2];
    if constexpr (C::kRows == LinearRows::heads) {
      if (out.rotates(steps)) {
#pragma unroll
        for (int i = 0; i < 2 * kCount; ++i)
          angle[i >> 1][i & 1] = out.angle(position, 8 * (kFirst + (i >> 1)) + 2 * (lane & 3) + (i & 1));
      }
    }
    if (steps.has(LinearSteps::normalise)) {
      const float4* scales = reinterpret_cast<const float4*>(s.scales()) + 4 * kFirst + (lane & 3);
      each([&](int g, float* v) { out.normalise(v, scales[4 * g]); });
    }
    if (steps.has(LinearSteps::bias)) each([&](int, float* v) { out.add_bias(v); });
    if constexpr (C::kRows == LinearRows::heads) {
      if (out.rotates(steps)) each([&](int g, float* v) { Out::turn(v, angle[g]); });
    } else if (steps.has(LinearSteps::gelu)) {
      each([](int, float* v) { Out::template apply<LinearActivation::gelu_tanh>(v); });
    } else if (steps.has(LinearSteps::silu)) {
      each([](int, float* v) { Out::template apply<LinearActivation::silu>(v); });
    } else if (C::kRows == LinearRows::pair) {
      each([](int, float* v) { Out::template apply<LinearActivation::none>(v); });
    }
    if (C::kRows == LinearRows::plain && steps.has(LinearSteps::residual)) {
      cp_async_wait<0>();
      sync();
      each([&](int g, float* v) {
        uint32_t pairs[2];
        ldmatrix_x2_trans(out.matrix_row(buffer, g), pairs);
        out.add_residual(v, pairs);
      });
    } else if (number > 1) {
      if (chief) bulk_wait_read<1>();  // the store of chunk number − 2 has read the buffer
      sync();
    }
    each([&](int g, float* v) {
      const uint32_t at = out.matrix_row(buffer, g);
      if constexpr (C::kRows == LinearRows::pair)
        stmatrix_x1_trans(at, pack2<T>(v[0], v[1]));
      else
        stmatrix_x2_trans(at, pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
    });
    fence_proxy_async();
    sync();
    if (chief)
      out.template store<kCount != C::kChunkGroups>(buffer, 8 * kFirst, begin, end, kCount, position);
    if constexpr (C::kRows == LinearRows::heads) out.store_ragged(buffer, 8 * kFirst, begin, end, position);
    if constexpr (C::kRows == LinearRows::plain) {
      if (steps.has(LinearSteps::statistics)) out.statistics(buffer, 8 * kFirst, begin, end);
    }
  }
  // Starts the copy of chunk `number`'s residual into its staging buffer.
  __device__ __forceinline__ void fetch_residual(int row0, int token0, int number) const {
    if (number >= C::kRowTiles * chunks) return;
    constexpr int kChunk = C::kChunkGroups;
    const bool second = number >= chunks;
    const int group = (first / kChunk + number - (second ? chunks : 0)) * kChunk;
    const Out out(p, LinearSteps(0u), row0 + (second ? 64 : 0), token0);
    out.fetch_residual(s.staging(warpgroup, number & 1), group * 8, max(first - group, 0),
                       min(last - group, kChunk));
  }
  __device__ __forceinline__ void finish(const Out& out, int i, int row0) {
    const auto chunk = [&]<int kIndex>() {
      constexpr int kChunk = C::kChunkGroups;
      if constexpr (kIndex * kChunk < C::kGroups) {
        if (kIndex * kChunk + kChunk <= first || kIndex * kChunk >= last) return;
        const int number = i * chunks + kIndex - first / kChunk;
        finish_chunk<kIndex>(out, acc[i], number);
        if (steps.has(LinearSteps::residual) && number + 2 < C::kRowTiles * chunks) {
          claim_staging();
          fetch_residual(row0, out.token0, number + 2);
        }
      }
    };
    chunk.template operator()<0>();
    chunk.template operator()<1>();
    chunk.template operator()<2>();
    chunk.template operator()<3>();
  }
  // Once per block: what must wait for the predecessor.
  __device__ __forceinline__ void start() {
    pdl_wait();
    if (C::kRows == LinearRows::heads && p.position) position = *p.position;
  }
  __device__ __forceinline__ void accumulate(int row0, int token0, uint32_t phase) {
    if (steps.has(LinearSteps::residual)) {
      claim_staging();
      fetch_residual(row0, token0, 0);
      fetch_residual(row0, token0, 1);
    }
    multiply();
    if (p.split > 1) reduce_split();
    if (steps.has(LinearSteps::normalise)) mbarrier_wait(s.scale_full(), phase);
  }
  __device__ __forceinline__ void run() {
    bool started = false;
    uint32_t phase = 0;
    for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at), phase ^= 1) {
      const int row0 = tile.row_tile * C::kTile.rows() + warpgroup * C::kRowTiles * 64;
      const int token0 = tile.token_tile * C::kTokens;
      if constexpr (C::kRowTiles == 1) {
        const Out out(p, steps, row0, token0);  // its loads are under way during the multiplication
        if (!started) start();
        accumulate(row0, token0, phase);
        finish(out, 0, row0);
      } else {  // no registers to spare
        if (!started) start();
        accumulate(row0, token0, phase);
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) finish(Out(p, steps, row0 + i * 64, token0), i, row0);
      }
      started = true;
      if (steps.has(LinearSteps::normalise)) {
        __syncwarp();
        if (lane == 0) mbarrier_arrive(s.scale_empty());
      }
    }
    if (!started) pdl_wait();
    if (chief) bulk_wait_read<0>();
  }
};

template <class C>
__device__ __forceinline__ void linear(const LinearParams& p) {
  extern __shared__ __align__(1024) uint8_t shared_memory[];
  pdl_launch();  // the whole grid is resident: a successor can only take what we leave free
  const LinearShared<C> s{shared_memory};
  const LinearPlace at(p);
  const bool clustered = at.rows * at.tokens * p.split > 1;
  const int warp = warp_id();
  constexpr int kProducerWarp = 4 * C::kWarpgroups;
  if (warp >= kProducerWarp) {
    LinearProducer<C> producer(p, s, at);
    const bool leader = warp == kProducerWarp && elect_one();
    if (leader) {
      tma_prefetch_descriptor(&p.weights);
      tma_prefetch_descriptor(&p.tokens);
      for (int i = 0; i < C::kStages; ++i) {
        mbarrier_init(s.full(i), 1);
        mbarrier_init(s.empty(i), 4 * C::kWarpgroups * at.peers());
      }
      mbarrier_init(s.scale_full(), 3);
      mbarrier_init(s.scale_empty(), 4 * C::kWarpgroups);
      mbarrier_init(s.split_ready(), max(1, 4 * C::kWarpgroups * (p.split - 1)));
      mbarrier_init(s.split_sums(), max(1, 4 * C::kWarpgroups * (p.split - 1)));
      fence_barrier_init();
      if (at.tokens == 1) producer.request_weights();  // they arrive at our barriers only
    }
    __syncwarp();
    if (clustered)
      cluster_sync();
    else
      __syncthreads();
    register_decrease<C::kProducerRegisters>();
    if (leader) {
      if (at.tokens > 1) producer.request_weights();
      producer.run();
    } else if (warp > kProducerWarp && p.row_stats) {
      linear_token_scales<C>(p, s, at, warp - kProducerWarp - 1);
    }
    __syncwarp();
  } else {
    if (warp == 0 && elect_one()) tma_prefetch_descriptor(&p.out_chunk);
    __syncwarp();
    Consumer<C> consumer(p, s, at, warp >> 2);
    if (clustered)
      cluster_sync();
    else
      __syncthreads();
    register_increase<C::kConsumerRegisters>();
    consumer.run();
  }
  if (clustered) cluster_sync();  // peers may still write to our ring or signal our barriers
}

}  // namespace
}  // namespace flashrt

#define FLASHRT_LINEAR(map, rows, tokens)                                                             \
  extern "C" __global__ void __launch_bounds__(flashrt::linear_tile(rows, tokens).threads(), 1)       \
      linear_sm90_bf16_##map##_r##rows##_n##tokens(const __grid_constant__ flashrt::LinearParams p) { \
    flashrt::linear<flashrt::LinearConfig<__nv_bfloat16, flashrt::LinearRows::map, rows, tokens>>(p); \
  }
FLASHRT_LINEAR_INSTANCES(FLASHRT_LINEAR)
