// y = epilogue(x · wᵀ) for some hundred tokens: weights on wgmma's M (64 rows), tokens on its N (exact tiles
// of 8·i). One warp streams both operands by TMA into a ring of 64-wide k blocks; two or three warpgroups
// multiply. Blocks of a cluster share operands by multicast, or share the k range of one tile and add their
// sums in rank order.
#include "cuda/kernels/common/linear_epilogue.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/wgmma.cuh"

namespace flashrt {
namespace {

template <class T_, LinearRows kRows_, int kWarpgroups_, int kRowTiles_, int kTokens_, int kResident_>
struct Config {
  using T = T_;
  static constexpr LinearRows kRows = kRows_;
  static constexpr LinearTile kTile{kWarpgroups_, kRowTiles_, kTokens_, kResident_};
  static constexpr int kWarpgroups = kWarpgroups_, kRowTiles = kRowTiles_, kTokens = kTokens_;
  static constexpr int kGroups = kTokens / 8, kStages = kTile.stages(), kStageBytes = kTile.stage_bytes();
  static constexpr int kChunkGroups = kTile.chunk_tokens() / 8;
  // All of the registers that the block gets at launch (168, 128 or 80 per thread).
  static constexpr int kConsumerRegisters = kResident_ == 2 ? 104 : kWarpgroups == 2 ? 232 : 152;
  static constexpr int kProducerRegisters = kResident_ == 2 ? 24 : kWarpgroups == 2 ? 40 : 56;
  using Accumulators = float[kRowTiles][kTokens / 2];
};

// Shared memory, from the 1,024-byte aligned base: ring, staging, per-token scales, barriers.
template <class C>
struct Shared {
  uint8_t* base;
  __device__ uint8_t* weights(int stage) const { return base + stage * C::kStageBytes; }
  __device__ uint8_t* tokens(int stage) const { return weights(stage) + C::kTile.rows() * 128; }
  __device__ uint32_t staging(int warpgroup, int buffer) const {
    return smem_u32(base) + C::kStages * C::kStageBytes +
           (warpgroup * 2 + buffer) * C::kTile.chunk_tokens() * 128;
  }
  __device__ float* scales() const {
    return reinterpret_cast<float*>(base + C::kStages * C::kStageBytes + C::kTile.staging_bytes());
  }
  __device__ Mbarrier* full(int stage) const {
    return reinterpret_cast<Mbarrier*>(scales() + 2 * C::kTokens) + stage;
  }
  __device__ Mbarrier* empty(int stage) const { return full(8 + stage); }
  __device__ Mbarrier* scale_full() const { return full(16); }
  __device__ Mbarrier* scale_empty() const { return full(17); }
  __device__ Mbarrier* split_ready() const { return full(18); }  // peers no longer read their rings
  __device__ Mbarrier* split_sums() const { return full(19); }   // peers' partial sums have arrived
};

// This block's coordinates in its cluster, and the cluster ranks of its peers.
struct Place {
  int row, token, split, rank;
  int rows, tokens;
  __device__ explicit Place(const LinearParams& p) : rows(p.cluster_rows), tokens(p.cluster_tokens) {
    rank = static_cast<int>(cluster_rank());
    row = rank % rows;
    token = rank / rows % tokens;
    split = rank / (rows * tokens);
  }
  __device__ int peers() const {
    return rows + tokens - 1;
  }  // blocks, this one included, that write to our ring
  __device__ int rank_of(int s, int t, int r) const { return (s * tokens + t) * rows + r; }
  __device__ int peer(int i) const {
    if (i < rows) return rank_of(split, token, i);
    const int t = i - rows;
    return rank_of(split, t < token ? t : t + 1, row);
  }
  __device__ uint16_t row_mask() const {
    return static_cast<uint16_t>(((1u << rows) - 1) << rank_of(split, token, 0));
  }
  __device__ uint16_t token_mask() const {
    uint32_t mask = 0;
    for (int t = 0; t < tokens; ++t) mask |= 1u << rank_of(split, t, row);
    return static_cast<uint16_t>(mask);
  }
};

// The tiles of one cluster: unit, unit + clusters, …; token groups run fastest so that concurrent clusters
// share weights.
struct Schedule {
  int unit, step, units, token_groups;
  __device__ explicit Schedule(const LinearParams& p)
      : unit(cluster_id()), units(p.row_groups * p.token_groups), token_groups(p.token_groups) {
    step = gridDim.x / (p.cluster_rows * p.cluster_tokens * p.split);
  }
  __device__ bool done() const { return unit >= units; }
  __device__ void next() { unit += step; }
  __device__ int row_tile(const Place& at) const { return unit / token_groups * at.rows + at.row; }
  __device__ int token_tile(const Place& at) const { return unit % token_groups * at.tokens + at.token; }
};

struct Ring {
  int slot = 0;
  uint32_t phase = 0;
  template <int kStages>
  __device__ __forceinline__ void next() {
    if (++slot == kStages) slot = 0, phase ^= 1;
  }
};

template <class C>
__device__ __forceinline__ void load_weights(const LinearParams& p, const Shared<C>& s, const Place& at,
                                             int row_tile, int stage, int block) {
  const int slice = C::kTile.rows() / at.tokens;
  const int row = row_tile * C::kTile.rows() + at.token * slice;
  uint8_t* dst = s.weights(stage) + at.token * slice * 128;
  const int k = block * 64;
  const uint16_t mask = at.token_mask();
  Mbarrier* bar = s.full(stage);
  if constexpr (C::kRows == LinearRows::plain) {
    if (at.tokens == 1)
      tma_load_2d(dst, &p.weights, bar, k, row);
    else
      tma_load_2d_multicast(dst, &p.weights, bar, k, row, mask);
  } else {
    int head = 0, group = row >> 4;
    if constexpr (C::kRows == LinearRows::heads) {
      head = row / p.head_dim;
      group = (row - head * p.head_dim) >> 4;
    }
    if (at.tokens == 1)
      tma_load_5d(dst, &p.weights, bar, k, 0, 0, group, head);
    else
      tma_load_5d_multicast(dst, &p.weights, bar, k, 0, 0, group, head, mask);
  }
}

// Each row peer loads a slice of the token tile for all of them; the last slice may overlap the one before
// it.
template <class C>
__device__ __forceinline__ void load_tokens(const LinearParams& p, const Shared<C>& s, const Place& at,
                                            int token_tile, int stage, int block) {
  const int first = min(at.row * p.token_slice, C::kTokens - p.token_slice);
  uint8_t* dst = s.tokens(stage) + first * 128;
  const int row = token_tile * C::kTokens + first;
  if (at.rows == 1)
    tma_load_2d(dst, &p.tokens, s.full(stage), block * 64, row);
  else
    tma_load_2d_multicast(dst, &p.tokens, s.full(stage), block * 64, row, at.row_mask());
}

// One thread. The producer's state from before the block barrier (weights requested) to after it.
template <class C>
struct Producer {
  const LinearParams& p;
  const Shared<C>& s;
  const Place& at;
  int first, last, early;  // k blocks of this block, and those whose weights are requested ahead
  __device__ Producer(const LinearParams& params, const Shared<C>& shared, const Place& place)
      : p(params), s(shared), at(place) {
    first = at.split * p.k_blocks / p.split;
    last = (at.split + 1) * p.k_blocks / p.split;
    early = min(first + C::kStages, last);
  }
  __device__ uint32_t bytes() const { return C::kTile.rows() * 128 + at.rows * p.token_slice * 128; }

  // Weights for the whole ring, before the predecessor's results are awaited.
  __device__ void request_weights() const {
    const Schedule tile(p);
    for (int block = first; block < early; ++block) {
      mbarrier_arrive_expect_tx(s.full(block - first), bytes());
      load_weights<C>(p, s, at, tile.row_tile(at), block - first, block);
    }
  }
  __device__ void run() const {
    pdl_launch();  // the whole grid is resident: a successor can only take what we leave free
    pdl_wait();
    Ring ring;
    bool warm = true;
    for (Schedule tile(p); !tile.done(); tile.next(), warm = false) {
      const int row_tile = tile.row_tile(at), token_tile = tile.token_tile(at);
      for (int block = first; block < last; ++block) {
        if (!warm || block >= early) {
          mbarrier_wait(s.empty(ring.slot), ring.phase ^ 1);
          mbarrier_arrive_expect_tx(s.full(ring.slot), bytes());
          load_weights<C>(p, s, at, row_tile, ring.slot, block);
        }
        load_tokens<C>(p, s, at, token_tile, ring.slot, block);
        ring.template next<C::kStages>();
      }
    }
  }
};

// Three warps: (rstd, rstd·mean) of every token of the tile, from the partial sums of the producer of x.
template <class C>
__device__ __forceinline__ void token_scales(const LinearParams& p, const Shared<C>& s, const Place& at,
                                             int warp) {
  pdl_wait();
  const int lane = lane_id();
  uint32_t phase = 0;
  for (Schedule tile(p); !tile.done(); tile.next(), phase ^= 1) {
    mbarrier_wait(s.scale_empty(), phase ^ 1);
    for (int t = warp * 4 + lane / 8; t < C::kTokens; t += 12) {
      const int row = tile.token_tile(at) * C::kTokens + t;
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

// acc = the tile's weights · tokensᵀ over this block's k blocks.
template <class C>
__device__ __forceinline__ void multiply(const LinearParams& p, const Shared<C>& s, const Place& at,
                                         int warpgroup, Ring& ring, typename C::Accumulators& acc) {
  const int lane = lane_id();
  const int blocks = (at.split + 1) * p.k_blocks / p.split - at.split * p.k_blocks / p.split;
  const int target = lane < at.peers() ? at.peer(lane) : -1;
  auto release = [&](int slot) {
    if (at.peers() == 1) {
      if (lane == 0) mbarrier_arrive(s.empty(slot));
    } else if (target >= 0) {
      mbarrier_arrive_remote(s.empty(slot), target);
    }
  };
  int previous = 0;
  for (int block = 0; block < blocks; ++block) {
    mbarrier_wait(s.full(ring.slot), ring.phase);
    const uint64_t a = descriptor_k_major(smem_u32(s.weights(ring.slot)) + warpgroup * C::kRowTiles * 8192);
    const uint64_t b = descriptor_k_major(smem_u32(s.tokens(ring.slot)));
    if (block == 0) {
#pragma unroll
      for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
    }
    if (p.lockstep) named_barrier_sync(8, 128 * C::kWarpgroups);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < C::kRowTiles; ++i)
        wgmma_ss<C::kTokens, false, typename C::T>(acc[i], a + i * (8192 >> 4) + k * kDescriptorNextK,
                                                   b + k * kDescriptorNextK, k > 0 || block > 0);
    }
    wgmma_commit();
    if (block > 0) {
      wgmma_wait<1>();
      release(previous);
    }
    previous = ring.slot;
    ring.template next<C::kStages>();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
  release(previous);
}

// The blocks of a split tile exchange partial sums through their (idle) rings: block i of the split finishes
// token groups i·share …; it adds what the others sent, in rank order, to its own.
template <class C>
__device__ __forceinline__ void reduce_split(const LinearParams& p, const Shared<C>& s, const Place& at,
                                             int warpgroup, int share, typename C::Accumulators& acc) {
  const int lane = lane_id();
  const auto signal = [&](Mbarrier* bar, auto arrive) {
    if (lane < p.split && lane != at.split) arrive(bar, at.rank_of(lane, at.token, at.row));
  };
  signal(s.split_ready(), [](Mbarrier* bar, int rank) { mbarrier_arrive_remote(bar, rank); });
  mbarrier_wait_cluster(s.split_ready(), 0);
  constexpr int kStep =
      C::kRowTiles * 2048;  // one group of one warpgroup: 16 bytes of each thread, per row tile
  const uint32_t base = smem_u32(s.base) + (threadIdx.x & 127) * 16 + warpgroup * share * kStep;
  const int sender_pitch = C::kWarpgroups * share * kStep;
  for (int owner = 0; owner < p.split; ++owner) {
    if (owner == at.split) continue;
    const int first = owner * share, last = first + share,
              sender = at.split < owner ? at.split : at.split - 1;
    const uint32_t to =
        map_to_rank(base + sender * sender_pitch, at.rank_of(owner, at.token, at.row)) - first * kStep;
#pragma unroll
    for (int g = 0; g < C::kGroups; ++g) {
      if (g < first || g >= last) continue;
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
  const int first = at.split * share, last = first + share;
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

// One chunk of tokens of one accumulator tile: arithmetic, transposition, store. Groups outside [first, last)
// belong to other blocks of the split: their values are meaningless and not stored.
template <class C>
using Output = LinearOutput<typename C::T, C::kRows, C::kTile.chunk_tokens()>;

template <class C, int kChunk>
__device__ __forceinline__ void finish_chunk(const Output<C>& out, float* acc, const float* scales,
                                             uint32_t buffer, int barrier, int first, int last) {
  using T = typename C::T;
  using Out = Output<C>;
  constexpr int kFirst = C::kChunkGroups * kChunk;
  constexpr int kLast = kFirst + C::kChunkGroups < C::kGroups ? kFirst + C::kChunkGroups : C::kGroups;
  const int begin = max(first, kFirst) - kFirst, end = min(last, kLast) - kFirst;
  const LinearParams& p = out.p;
  const int lane = out.lane;
  const auto each = [&](auto step) {
#pragma unroll
    for (int g = kFirst; g < kLast; ++g) step(g, acc + 4 * g);
  };
  if (p.row_stats) {
    each([&](int g, float* v) {
      out.normalise(v, *reinterpret_cast<const float4*>(scales + 2 * (8 * g + 2 * (lane & 3))));
    });
  }
  if (p.bias) each([&](int, float* v) { out.add_bias(v); });
  if constexpr (C::kRows == LinearRows::heads) {
    if (out.rotary) {
      float2 angle[kLast - kFirst][2];
#pragma unroll
      for (int i = 0; i < 2 * (kLast - kFirst); ++i) {
        const int t = min(8 * kFirst + (i >> 1) * 8 + 2 * (lane & 3) + (i & 1), p.m - 1 - out.token0);
        angle[i >> 1][i & 1] = out.rotary[static_cast<int64_t>(max(t, 0)) * (p.head_dim >> 1)];
      }
      each([&](int g, float* v) { Out::turn(v, angle[g - kFirst]); });
    }
  } else if (p.activation == LinearActivation::gelu_tanh) {
    each([](int, float* v) { Out::template apply<LinearActivation::gelu_tanh>(v); });
  } else if (p.activation == LinearActivation::silu) {
    each([](int, float* v) { Out::template apply<LinearActivation::silu>(v); });
  } else if (C::kRows == LinearRows::pair) {
    each([](int, float* v) { Out::template apply<LinearActivation::none>(v); });
  }
  if (C::kRows == LinearRows::plain && p.residual) {
    cp_async_wait<0>();
    named_barrier_sync(barrier, 128);
    each([&](int g, float* v) {
      uint32_t pairs[2];
      ldmatrix_x2_trans(out.matrix_row(buffer, g - kFirst), pairs);
      out.add_residual(v, pairs);
    });
  } else {
    if (out.thread == 0) bulk_wait_read<1>();  // the store that last used this buffer has read it
    named_barrier_sync(barrier, 128);
  }
  each([&](int g, float* v) {
    const uint32_t at = out.matrix_row(buffer, g - kFirst);
    if constexpr (C::kRows == LinearRows::pair)
      stmatrix_x1_trans(at, pack2<T>(v[0], v[1]));
    else
      stmatrix_x2_trans(at, pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
  });
  fence_proxy_async();
  named_barrier_sync(barrier, 128);
  if (out.thread == 0) out.store(buffer, 8 * kFirst, begin, end);
  if constexpr (C::kRows == LinearRows::heads) out.store_ragged(buffer, 8 * kFirst, begin, end);
  if constexpr (C::kRows == LinearRows::plain) {
    if (p.out_stats) out.statistics(buffer, 8 * kFirst, begin, end);
  }
}

template <class C>
__device__ __forceinline__ void consume(const LinearParams& p, const Shared<C>& s, const Place& at,
                                        int warpgroup) {
  using Out = Output<C>;
  pdl_wait();
  const int barrier = 1 + warpgroup, thread = threadIdx.x & 127;
  const int position = C::kRows == LinearRows::heads && p.position ? *p.position : 0;
  const int share = (C::kGroups + p.split - 1) / p.split;
  const int first = at.split * share, last = min(first + share, C::kGroups);
  constexpr int kChunk = C::kChunkGroups;
  const int chunks = first < last ? (last + kChunk - 1) / kChunk - first / kChunk : 0;
  Ring ring;
  uint32_t phase = 0;
  for (Schedule tile(p); !tile.done(); tile.next(), phase ^= 1) {
    const int row0 = tile.row_tile(at) * C::kTile.rows() + warpgroup * C::kRowTiles * 64;
    const int token0 = tile.token_tile(at) * C::kTokens;
    // Chunk `number` of this block's share; the residual of the first two is under way during the
    // multiplication.
    const auto fetch = [&](const Out& out, int number) {
      const int chunk = first / kChunk + (number < chunks ? number : number - chunks);
      const int begin = max(first, chunk * kChunk), end = min(last, chunk * kChunk + kChunk);
      out.fetch_residual(s.staging(warpgroup, number & 1), chunk * kChunk * 8, begin % kChunk,
                         end - chunk * kChunk);
    };
    const auto fetch_number = [&](int number) {
      if (number < C::kRowTiles * chunks)
        fetch(Out(p, row0 + (number < chunks ? 0 : 64), token0, position), number);
    };
    if (p.residual) {
      if (thread == 0) bulk_wait_read<0>();  // the staging buffers of the previous tile
      named_barrier_sync(barrier, 128);
      fetch_number(0);
      fetch_number(1);
    }
    typename C::Accumulators acc;
    const auto finish = [&](const Out& out, int i) {
      const auto chunk = [&]<int kIndex>() {
        if constexpr (kIndex * kChunk < C::kGroups) {
          if (kIndex * kChunk + kChunk <= first || kIndex * kChunk >= last) return;
          const int number = i * chunks + kIndex - first / kChunk;
          finish_chunk<C, kIndex>(out, acc[i], s.scales(), s.staging(warpgroup, number & 1), barrier, first,
                                  last);
          if (p.residual && number + 2 < C::kRowTiles * chunks) {
            if (thread == 0) bulk_wait_read<0>();
            named_barrier_sync(barrier, 128);
            fetch_number(number + 2);
          }
        }
      };
      chunk.template operator()<0>();
      chunk.template operator()<1>();
      chunk.template operator()<2>();
      chunk.template operator()<3>();
    };
    const auto accumulate = [&] {
      multiply<C>(p, s, at, warpgroup, ring, acc);
      if (p.split > 1) reduce_split<C>(p, s, at, warpgroup, share, acc);
      if (p.row_stats) mbarrier_wait(s.scale_full(), phase);
    };
    if constexpr (C::kRowTiles == 1) {
      const Out out(p, row0, token0, position);  // its loads are under way during the multiplication
      accumulate();
      finish(out, 0);
    } else {  // no registers to spare
      accumulate();
#pragma unroll
      for (int i = 0; i < C::kRowTiles; ++i) finish(Out(p, row0 + i * 64, token0, position), i);
    }
    if (p.row_stats) {
      __syncwarp();
      if (lane_id() == 0) mbarrier_arrive(s.scale_empty());
    }
  }
  if (thread == 0) bulk_wait<0>();
}

template <class C>
__device__ __forceinline__ void linear(const LinearParams& p) {
  extern __shared__ __align__(1024) uint8_t shared_memory[];
  const Shared<C> s{shared_memory};
  const Place at(p);
  const bool clustered = p.cluster_rows * p.cluster_tokens * p.split > 1;
  const int warp = warp_id(), producer_warp = 4 * C::kWarpgroups;
  const Producer<C> producer(p, s, at);
  const bool leader = warp == producer_warp && elect_one();
  if (leader) {
    tma_prefetch_descriptor(&p.weights);
    tma_prefetch_descriptor(&p.tokens);
    tma_prefetch_descriptor(&p.out_chunk);
    for (int i = 0; i < C::kStages; ++i) {
      mbarrier_init(s.full(i), 1);
      mbarrier_init(s.empty(i), 4 * C::kWarpgroups * at.peers());
    }
    mbarrier_init(s.scale_full(), 3);
    mbarrier_init(s.scale_empty(), 4 * C::kWarpgroups);
    mbarrier_init(s.split_ready(), max(1, 4 * C::kWarpgroups * (p.split - 1)));
    mbarrier_init(s.split_sums(), max(1, 4 * C::kWarpgroups * (p.split - 1)));
    fence_barrier_init();
    if (at.tokens == 1) producer.request_weights();  // arrive at our barriers only
  }
  __syncwarp();
  if (clustered)
    cluster_sync();
  else
    __syncthreads();

  if (warp >= producer_warp) {
    register_decrease<C::kProducerRegisters>();
    if (leader) {
      if (at.tokens > 1) producer.request_weights();
      producer.run();
    } else if (warp > producer_warp && p.row_stats) {
      token_scales<C>(p, s, at, warp - producer_warp - 1);
    }
    __syncwarp();
  } else {
    register_increase<C::kConsumerRegisters>();
    consume<C>(p, s, at, warp >> 2);
  }
  if (clustered) cluster_sync();  // peers may still write to our ring or signal our barriers
}

}  // namespace
}  // namespace flashrt

// The compiled instances. resident: blocks per SM.
#define FLASHRT_LINEAR(type, name, row_map, warpgroups, row_tiles, rows, tokens, resident)                   \
  extern "C" __global__ void __launch_bounds__(128 * (warpgroups + 1), resident)                             \
      linear_sm90_##name##_##row_map##_r##rows##_n##tokens##_x##resident(                                    \
          const __grid_constant__ flashrt::LinearParams p) {                                                 \
    static_assert(rows == 64 * warpgroups * row_tiles);                                                      \
    using flashrt::LinearRows;                                                                               \
    flashrt::linear<flashrt::Config<type, LinearRows::row_map, warpgroups, row_tiles, tokens, resident>>(p); \
  }
#define FLASHRT_R128(row_map, tokens) FLASHRT_LINEAR(__nv_bfloat16, bf16, row_map, 2, 1, 128, tokens, 1)
#define FLASHRT_R192(row_map, tokens) FLASHRT_LINEAR(__nv_bfloat16, bf16, row_map, 3, 1, 192, tokens, 1)
#define FLASHRT_R256(row_map, tokens) FLASHRT_LINEAR(__nv_bfloat16, bf16, row_map, 2, 2, 256, tokens, 1)
#define FLASHRT_R128_X2(row_map, tokens) FLASHRT_LINEAR(__nv_bfloat16, bf16, row_map, 2, 1, 128, tokens, 2)
// clang-format off
FLASHRT_R128(plain, 64) FLASHRT_R128(plain, 80) FLASHRT_R128(plain, 88) FLASHRT_R128(plain, 96)
FLASHRT_R128(plain, 104) FLASHRT_R128(plain, 112) FLASHRT_R128(plain, 120) FLASHRT_R128(plain, 128)
FLASHRT_R128(plain, 136) FLASHRT_R128(plain, 144) FLASHRT_R128(plain, 152) FLASHRT_R128(plain, 168)
FLASHRT_R128(plain, 176) FLASHRT_R128(plain, 184) FLASHRT_R128(plain, 192) FLASHRT_R128(plain, 208)
FLASHRT_R128(plain, 232) FLASHRT_R128(plain, 240) FLASHRT_R128(plain, 248) FLASHRT_R128(plain, 256)
FLASHRT_R192(plain, 88) FLASHRT_R192(plain, 104) FLASHRT_R192(plain, 112) FLASHRT_R192(plain, 128)
FLASHRT_R192(plain, 136) FLASHRT_R192(plain, 160)
FLASHRT_R256(plain, 88) FLASHRT_R256(plain, 96) FLASHRT_R256(plain, 104) FLASHRT_R256(plain, 112)
FLASHRT_R256(plain, 120) FLASHRT_R256(plain, 128) FLASHRT_R256(plain, 136) FLASHRT_R256(plain, 144)
FLASHRT_R256(plain, 152) FLASHRT_R256(plain, 160) FLASHRT_R256(plain, 168) FLASHRT_R256(plain, 176)
FLASHRT_R128_X2(plain, 48) FLASHRT_R128_X2(plain, 56) FLASHRT_R128_X2(plain, 64) FLASHRT_R128_X2(plain, 72)
FLASHRT_R128_X2(plain, 80) FLASHRT_R128_X2(plain, 88) FLASHRT_R128_X2(plain, 96)
FLASHRT_R128(pair, 136) FLASHRT_R128(pair, 152) FLASHRT_R128(pair, 176) FLASHRT_R128(pair, 192)
FLASHRT_R128(pair, 208) FLASHRT_R128(pair, 232) FLASHRT_R128(pair, 240) FLASHRT_R128(pair, 248)
FLASHRT_R128(pair, 256)
FLASHRT_R192(pair, 136) FLASHRT_R192(pair, 160) FLASHRT_R192(pair, 176) FLASHRT_R192(pair, 192)
FLASHRT_R256(pair, 104) FLASHRT_R256(pair, 112) FLASHRT_R256(pair, 120) FLASHRT_R256(pair, 128)
FLASHRT_R256(pair, 136) FLASHRT_R256(pair, 144) FLASHRT_R256(pair, 152) FLASHRT_R256(pair, 160)
FLASHRT_R256(pair, 168) FLASHRT_R256(pair, 176) FLASHRT_R256(pair, 192)
FLASHRT_R128(heads, 88) FLASHRT_R128(heads, 96) FLASHRT_R128(heads, 120) FLASHRT_R128(heads, 128)
FLASHRT_R128(heads, 136) FLASHRT_R128(heads, 152) FLASHRT_R128(heads, 168) FLASHRT_R128(heads, 176)
FLASHRT_R128(heads, 192) FLASHRT_R128(heads, 232) FLASHRT_R128(heads, 240) FLASHRT_R128(heads, 248)
FLASHRT_R256(heads, 88) FLASHRT_R256(heads, 96) FLASHRT_R256(heads, 136) FLASHRT_R256(heads, 144)
FLASHRT_R256(heads, 152) FLASHRT_R256(heads, 168) FLASHRT_R256(heads, 176)
FLASHRT_R128_X2(heads, 64) FLASHRT_R128_X2(heads, 80) FLASHRT_R128_X2(heads, 88) FLASHRT_R128_X2(heads, 96)
    // clang-format on
