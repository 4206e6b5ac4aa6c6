// y = epilogue(x · wᵀ) for some hundred tokens: weights on wgmma's M (64 rows), tokens on its N (exact tiles
// of 8·i). Two warps stream the operands by TMA into a ring of 64-wide k blocks; one to three warpgroups
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
using Output = LinearOutput<typename C::T, C::kRows, C::kTile.chunk_tokens(), C::kBuffers == 1>;

// One warpgroup (64 · kRowTiles rows of every tile) from the ring to global memory.
template <class C>
struct Consumer {
  using T = typename C::T;
  using Out = Output<C>;
  // All angles of a tile where registers hold them, else those of one chunk.
  static constexpr bool kAllAngles = C::kTokens <= 168 && C::kRowTiles == 1;
  static constexpr int kAngleGroups = kAllAngles ? C::kGroups : C::kChunkGroups;
  using Angles = float2[C::kRows == LinearRows::heads ? kAngleGroups : 1][2];
  const LinearParams& p;
  const LinearShared<C>& s;
  const LinearPlace& at;
  const LinearSteps steps;
  const int warpgroup, lane, barrier;
  const bool chief;         // the thread that stores
  int first, last, chunks;  // token groups that this block of the split finishes, in so many chunks
  int count;                // k blocks
  int idle_after;           // of them the one that last reads where peers' sums go
  int release_to;           // cluster rank that this lane tells of free slots, or -1
  int position = 0;
  bool started = false;
  int scaled = -1;  // first token of the tile whose scales are in shared memory
  LinearRing<C> ring;
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
        chief((threadIdx.x & 127) == 0),
        ring(shared, params, LinearRange(params, place.split).count) {
    first = at.split * p.split_groups;
    last = min(first + p.split_groups, C::kGroups);
    constexpr int kChunk = C::kChunkGroups;
    chunks = first < last ? (last + kChunk - 1) / kChunk - first / kChunk : 0;
    count = LinearRange(p, at.split).count;
    const int received = (p.split - 1) * p.split_groups * C::kWarpgroups * kLinearSumBytes<C>;
    idle_after = count - p.stages + (received + C::kStageBytes - 1) / C::kStageBytes - 1;
    release_to = lane < at.peers() ? at.peer(lane) : -1;
  }
  __device__ __forceinline__ void sync() const { named_barrier_sync(barrier, 128); }
  __device__ __forceinline__ void release(uint32_t empty) const {
    if (at.peers() == 1) {
      if (lane == 0) mbarrier_arrive(empty);
    } else if (release_to >= 0) {
      mbarrier_arrive_remote(empty, release_to);
    }
  }
  // The staging buffers: the stores of the previous tile have read them.
  __device__ __forceinline__ void claim_staging() const {
    if (chief) bulk_wait_read<0>();
    sync();
  }

  // acc = the tile's weights · tokensᵀ over this block's k blocks; `meanwhile` runs under the first of them.
  template <class F>
  __device__ __forceinline__ void multiply(F meanwhile) {
    uint32_t previous = 0;
    const int tell = p.split > 1 ? idle_after : count;
    if (tell < 0) allow_sums();
#pragma unroll 1
    for (int block = 0; block < count; ++block) {
      mbarrier_wait(ring.full(), ring.phase);
      const uint64_t a = descriptor_k_major(ring.weights() + warpgroup * C::kRowTiles * 8192);
      const uint64_t b = descriptor_k_major(ring.tokens());
      if (block == 0) {
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
      }
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4 * C::kDepth; ++k) {
        const int deeper = k / 4;  // the next 64 k-values follow the first
        const uint64_t ak = a + deeper * (C::kTile.rows() * 128 >> 4) + k % 4 * kDescriptorNextK;
        const uint64_t bk = b + deeper * (C::kTokens * 128 >> 4) + k % 4 * kDescriptorNextK;
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i)
          wgmma_ss<C::kTokens, false, T>(acc[i], ak + i * (8192 >> 4), bk, k > 0 || block > 0);
      }
      wgmma_commit();
      if (block > 0) {
        wgmma_wait<1>();
        release(previous);
        if (block == tell + 1) allow_sums();
      } else {
        meanwhile();
      }
      previous = ring.empty();
      ring.next();
    }
    wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
    release(previous);
    if (tell == count - 1) allow_sums();
  }

  // The blocks of a split tile exchange partial sums through their rings: block i of the split finishes token
  // groups i·split_groups …; it adds what the others sent, in rank order, to its own.
  __device__ __forceinline__ void allow_sums() const {
    if (at.peers() == 1) cluster_wait();  // their barriers are ready
    if (lane < p.split && lane != at.split)
      mbarrier_arrive_remote(s.split_ready(), at.rank_of(lane, at.token, at.row));
  }
  __device__ __forceinline__ void reduce_split() {
    mbarrier_wait_cluster(s.split_ready(), 0);
    constexpr int kStep = kLinearSumBytes<C>;
    const uint32_t base = s.ring() + (threadIdx.x & 127) * 16 + warpgroup * p.split_groups * kStep;
    const int sender_pitch = C::kWarpgroups * p.split_groups * kStep;
    for (int owner = 0; owner < p.split; ++owner) {
      if (owner == at.split) continue;
      const int begin = owner * p.split_groups, end = begin + p.split_groups;
      const int sender = at.split < owner ? at.split : at.split - 1,
                rank = at.rank_of(owner, at.token, at.row);
      const uint32_t to = map_to_rank(base + sender * sender_pitch, rank) - begin * kStep;
      const uint32_t bar = map_to_rank(s.split_sums(warpgroup), rank);
#pragma unroll
      for (int g = 0; g < C::kGroups; ++g) {
        if (g < begin || g >= end) continue;
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) {
          const float* v = acc[i] + 4 * g;
          st_async_f4(to + g * kStep + i * 2048, v[0], v[1], v[2], v[3], bar);
        }
      }
    }
    mbarrier_wait_cluster(s.split_sums(warpgroup), 0);
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

  // (cos, sin) of the tokens of groups kFirst … for this thread's pair; fetched long before their use.
  template <int kFirst>
  __device__ __forceinline__ void load_angles(const Out& out, Angles& angles) const {
#pragma unroll
    for (int i = 0; i < 2 * kAngleGroups; ++i) {
      if (kFirst + (i >> 1) < C::kGroups)
        angles[i >> 1][i & 1] = out.angle(position, 8 * (kFirst + (i >> 1)) + 2 * (lane & 3) + (i & 1));
    }
  }
  // Of the first chunk that this block of the split finishes.
  __device__ __forceinline__ void load_first_angles(const Out& out, Angles& angles) const {
    if constexpr (kAllAngles) return load_angles<0>(out, angles);
    const auto load = [&]<int kChunk>() {
      if constexpr (kChunk * C::kChunkGroups < C::kGroups)
        if (first / C::kChunkGroups == kChunk) load_angles<kChunk * C::kChunkGroups>(out, angles);
    };
    load.template operator()<0>();
    load.template operator()<1>();
    load.template operator()<2>();
    load.template operator()<3>();
  }
  // One chunk of tokens of one accumulator tile, the number-th of this block: arithmetic, transposition,
  // store. Groups outside [first, last) belong to other blocks of the split: their values are meaningless and
  // not stored.
  template <int kChunk>
  __device__ __forceinline__ void finish_chunk(const Out& out, float* values, int number,
                                               Angles& angles) const {
    constexpr int kFirst = C::kChunkGroups * kChunk;
    constexpr int kCount = C::kGroups - kFirst < C::kChunkGroups ? C::kGroups - kFirst : C::kChunkGroups;
    const int begin = max(first - kFirst, 0), end = min(last - kFirst, kCount);
    const uint32_t buffer = s.staging(warpgroup, number & (C::kBuffers - 1));
    const auto each = [&](auto step) {
#pragma unroll
      for (int g = 0; g < kCount; ++g) step(g, values + 4 * (kFirst + g));
    };
    if (steps.has(LinearSteps::normalise)) {
      const uint32_t scales = s.scales() + 32 * kFirst + 8 * (lane & 3);
      each([&](int g, float* v) { out.normalise(v, ld_shared_f2(scales + 32 * g)); });
    } else if (steps.has(LinearSteps::bias)) {
      each([&](int, float* v) { out.add_bias(v); });
    }
    if constexpr (C::kRows == LinearRows::heads) {
      if (out.rotates(steps)) {
        each([&](int g, float* v) { Out::turn(v, angles[kAllAngles ? kFirst + g : g]); });
        if constexpr (!kAllAngles) load_angles<kFirst + C::kChunkGroups>(out, angles);
      }
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
    } else if (number >= C::kBuffers) {
      if (chief) bulk_wait_read<C::kBuffers - 1>();  // the store before has read the buffer
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
    out.fetch_residual(s.staging(warpgroup, number & (C::kBuffers - 1)), group * 8, max(first - group, 0),
                       min(last - group, kChunk));
  }
  __device__ __forceinline__ void finish(const Out& out, int i, int row0, Angles& angles) {
    const auto chunk = [&]<int kIndex>() {
      constexpr int kChunk = C::kChunkGroups;
      if constexpr (kIndex * kChunk < C::kGroups) {
        if (kIndex * kChunk + kChunk <= first || kIndex * kChunk >= last || first >= last) return;
        const int number = i * chunks + kIndex - first / kChunk;
        finish_chunk<kIndex>(out, acc[i], number, angles);
        if (steps.has(LinearSteps::residual) && number + C::kBuffers < C::kRowTiles * chunks) {
          claim_staging();
          fetch_residual(row0, out.token0, number + C::kBuffers);
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
    started = true;
    if (C::kRows == LinearRows::heads && p.position) position = *p.position;
  }
  // What the epilogue reads is requested under the first product.
  template <class F>
  __device__ __forceinline__ void accumulate(int row0, int token0, F request) {
    const bool rescaled = steps.has(LinearSteps::normalise) && scaled != token0;
    multiply([&] {
      if (!started) start();
      if (rescaled && scaled >= 0) named_barrier_arrive(LinearScales<C>::kRead, LinearScales<C>::kThreads);
      request();
      claim_staging();
      if (C::kRows == LinearRows::plain && steps.has(LinearSteps::residual)) {
        fetch_residual(row0, token0, 0);
        if (C::kBuffers > 1) fetch_residual(row0, token0, 1);
      }
    });
    if (p.split > 1) reduce_split();
    if (rescaled) named_barrier_sync(LinearScales<C>::kWritten, LinearScales<C>::kThreads);
    scaled = token0;
  }
  __device__ __forceinline__ void run() {
    for (LinearSchedule tile(p, at); !tile.done(); tile.next(p, at)) {
      const int row0 = tile.row_tile * C::kTile.rows() + warpgroup * C::kRowTiles * 64;
      const int token0 = tile.token_tile * C::kTokens;
      Angles angles;
      const auto request = [&](const Out& out) {
        if constexpr (C::kRows == LinearRows::heads) {
          if (out.rotates(steps)) load_first_angles(out, angles);
        }
      };
      if constexpr (C::kRowTiles == 1) {
        const Out out(p, steps, row0, token0);  // its loads are under way during the multiplication
        accumulate(row0, token0, [&] { request(out); });
        finish(out, 0, row0, angles);
      } else {  // no registers to spare
        accumulate(row0, token0, [] {});
#pragma unroll
        for (int i = 0; i < C::kRowTiles; ++i) {
          const Out out(p, steps, row0 + i * 64, token0);
          request(out);
          finish(out, i, row0, angles);
        }
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
  const LinearShared<C> s(shared_memory);
  const LinearPlace at(p);
  const int warp = warp_id();
  constexpr int kProducerWarp = 4 * C::kWarpgroups;
  // Found by all before the one barrier of the block: it takes as long as what the others do there.
  Consumer<C> consumer(p, s, at, warp >> 2);
  if (warp == kProducerWarp && elect_one()) {
    tma_prefetch_descriptor(&p.weights);
    linear_init_barriers<C>(p, s, at);
  } else if (warp == kProducerWarp + 1 && elect_one()) {
    tma_prefetch_descriptor(&p.tokens);
  } else if (warp == 0 && elect_one()) {
    tma_prefetch_descriptor(&p.out_chunk);
  }
  __syncwarp();
  // The barriers of the ring are ready. Blocks that only share a k range meet again when they exchange their
  // sums, and never after.
  const bool multicasts = at.rows * at.tokens > 1;
  if (multicasts || p.split > 1) cluster_arrive();
  if (multicasts)
    cluster_wait();
  else
    __syncthreads();
  if (warp >= kProducerWarp) {
    if constexpr (C::kMovesRegisters) register_decrease<C::kProducerRegisters>();
    if (warp == kProducerWarp) {
      if (elect_one()) LinearWeights<C>(p, s, at).run();
    } else if (pdl_wait(); warp == kProducerWarp + 1) {
      if (elect_one()) LinearTokens<C>(p, s, at).run();
    } else {
      const int thread = (threadIdx.x & 127) - 64;
      if (p.row_stats) LinearScales<C>(p, s, at, thread).run();
      if (C::kRows == LinearRows::heads && p.rotary) linear_fetch_angles<C>(p, at, thread);
    }
    __syncwarp();
  } else {
    if constexpr (C::kMovesRegisters) register_increase<C::kConsumerRegisters>();
    consumer.run();
  }
  if (multicasts) cluster_sync();  // peers may still write to our ring or signal our barriers
}

}  // namespace
}  // namespace flashrt

#define FLASHRT_LINEAR(map, rows, tokens)                                                             \
  extern "C" __global__ void __launch_bounds__(flashrt::linear_tile(rows, tokens).threads(),          \
                                               flashrt::linear_tile(rows, tokens).residents())        \
      linear_sm90_bf16_##map##_r##rows##_n##tokens(const __grid_constant__ flashrt::LinearParams p) { \
    flashrt::linear<flashrt::LinearConfig<__nv_bfloat16, flashrt::LinearRows::map, rows, tokens>>(p); \
  }
FLASHRT_LINEAR_INSTANCES(FLASHRT_LINEAR)
