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

// One thread. Weights for the whole ring are requested before the predecessor's results are awaited.
template <class C>
__device__ __forceinline__ void produce(const LinearParams& p, const Shared<C>& s, const Place& at) {
  const uint32_t bytes = C::kTile.rows() * 128 + at.rows * p.token_slice * 128;
  const int first = at.split * p.k_blocks / p.split, last = (at.split + 1) * p.k_blocks / p.split;
  Schedule tile(p);
  const int early = tile.done() ? first : min(first + C::kStages, last);
  for (int block = first; block < early; ++block) {
    mbarrier_arrive_expect_tx(s.full(block - first), bytes);
    load_weights<C>(p, s, at, tile.row_tile(at), block - first, block);
  }
  pdl_wait();
  Ring ring;
  for (bool warm = true; !tile.done(); tile.next(), warm = false) {
    const int row_tile = tile.row_tile(at), token_tile = tile.token_tile(at);
    for (int block = first; block < last; ++block) {
      if (!warm || block >= early) {
        mbarrier_wait(s.empty(ring.slot), ring.phase ^ 1);
        mbarrier_arrive_expect_tx(s.full(ring.slot), bytes);
        load_weights<C>(p, s, at, row_tile, ring.slot, block);
      }
      load_tokens<C>(p, s, at, token_tile, ring.slot, block);
      ring.template next<C::kStages>();
    }
  }
  pdl_launch();
}

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
                                         int warpgroup, bool lead, Ring& ring,
                                         typename C::Accumulators& acc) {
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
    if (lead && block + 1 == p.skew) named_barrier_arrive(8, 256);
    previous = ring.slot;
    ring.template next<C::kStages>();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < C::kRowTiles; ++i) wgmma_pin(acc[i]);
  release(previous);
}

// The blocks of a split tile exchange partial sums through their (idle) rings: block i of the split finishes
// the token groups i·share …, adding the partial sums in split order.
template <class C>
__device__ __forceinline__ void reduce_split(const LinearParams& p, const Shared<C>& s, const Place& at,
                                             int warpgroup, int share, typename C::Accumulators& acc) {
  const int lane = lane_id(), thread = threadIdx.x & 127;
  if (lane < p.split && lane != at.split)
    mbarrier_arrive_remote(s.split_ready(), at.rank_of(lane, at.token, at.row));
  mbarrier_wait_cluster(s.split_ready(), 0);
  const uint32_t base = smem_u32(s.base) + thread * 16;
  const int pitch = share * C::kRowTiles;  // 2,048-byte units of one warpgroup of one sender
#pragma unroll
  for (int g = 0; g < C::kGroups; ++g) {
    const int owner = g / share;
    if (owner == at.split) continue;
    const int sender = at.split < owner ? at.split : at.split - 1;
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) {
      const int unit = (sender * C::kWarpgroups + warpgroup) * pitch + (g - owner * share) * C::kRowTiles + i;
      const float* v = acc[i] + 4 * g;
      st_cluster_f4(map_to_rank(base + unit * 2048, at.rank_of(owner, at.token, at.row)),
                    make_float4(v[0], v[1], v[2], v[3]));
    }
  }
  __syncwarp();
  if (lane < p.split && lane != at.split)
    mbarrier_arrive_remote_release(s.split_sums(), at.rank_of(lane, at.token, at.row));
  mbarrier_wait_cluster(s.split_sums(), 0);
#pragma unroll
  for (int g = 0; g < C::kGroups; ++g) {
    if (g / share != at.split) continue;
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) {
      float total[4] = {0.f, 0.f, 0.f, 0.f};
      for (int from = 0; from < p.split; ++from) {
        if (from == at.split) {
#pragma unroll
          for (int e = 0; e < 4; ++e) total[e] += acc[i][4 * g + e];
          continue;
        }
        const int sender = from < at.split ? from : from - 1;
        const int unit =
            (sender * C::kWarpgroups + warpgroup) * pitch + (g - at.split * share) * C::kRowTiles + i;
        const uint4 v = ld_shared_16(base + unit * 2048);
        total[0] += __uint_as_float(v.x);
        total[1] += __uint_as_float(v.y);
        total[2] += __uint_as_float(v.z);
        total[3] += __uint_as_float(v.w);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[i][4 * g + e] = total[e];
    }
  }
}

// One chunk of tokens of one accumulator tile: arithmetic, transposition, store. Groups outside [first, last)
// belong to other blocks of the split: their values are meaningless and not stored.
template <class C, int kChunk>
__device__ __forceinline__ void finish_chunk(const LinearOutput<typename C::T, C::kRows>& out, float* acc,
                                             const float* scales, uint32_t buffer, int barrier, int first,
                                             int last) {
  using T = typename C::T;
  using Out = LinearOutput<T, C::kRows>;
  constexpr int kFirst = C::kChunkGroups * kChunk;
  constexpr int kLast = kFirst + C::kChunkGroups < C::kGroups ? kFirst + C::kChunkGroups : C::kGroups;
  const LinearParams& p = out.p;
  const int lane = out.lane, half = lane >> 3 & 1;
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
    if (out.rotate) {
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
  const auto unit = [&](int g) {  // where this lane's row of the transposed 8 × 8 matrices of group g goes
    const int vector = C::kRows == LinearRows::pair    ? out.warp
                       : C::kRows == LinearRows::heads ? half * 4 + out.warp
                                                       : out.warp * 2 + half;
    return Out::unit(buffer, (g - kFirst) * 8 + (lane & 7), vector);
  };
  if constexpr (C::kRows == LinearRows::plain) {
    if (p.residual) {
      cp_async_wait<0>();
      named_barrier_sync(barrier, 128);
      each([&](int g, float* v) {
        uint32_t pairs[2];
        ldmatrix_x2_trans(unit(g), pairs);
        out.add_residual(v, pairs);
      });
    }
  }
  each([&](int g, float* v) {
    if constexpr (C::kRows == LinearRows::pair)
      stmatrix_x1_trans(unit(g), pack2<T>(v[0], v[1]));
    else
      stmatrix_x2_trans(unit(g), pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
  });
  named_barrier_sync(barrier, 128);
  const int begin = max(first, kFirst) - kFirst, end = min(last, kLast) - kFirst;
  out.store(buffer + begin * 8 * Out::kPitch, 8 * (kFirst + begin), 8 * (end - begin));
}

template <class C>
__device__ __forceinline__ void consume(const LinearParams& p, const Shared<C>& s, const Place& at,
                                        int warpgroup) {
  using Out = LinearOutput<typename C::T, C::kRows>;
  pdl_wait();
  const int barrier = 1 + warpgroup;
  const int position = C::kRows == LinearRows::heads && p.position ? *p.position : 0;
  const int share = (C::kGroups + p.split - 1) / p.split;
  const int first = at.split * share, last = min(first + share, C::kGroups);
  constexpr int kChunk = C::kChunkGroups;
  const int chunks = first < last ? (last + kChunk - 1) / kChunk - first / kChunk : 0;
  const bool skewed = C::kWarpgroups == 2 && p.skew > 0;
  if (skewed && warpgroup == 1) named_barrier_sync(8, 256);
  Ring ring;
  uint32_t phase = 0;
  bool lead = skewed && warpgroup == 0;
  for (Schedule tile(p); !tile.done(); tile.next(), phase ^= 1, lead = false) {
    const int row0 = tile.row_tile(at) * C::kTile.rows() + warpgroup * C::kRowTiles * 64;
    const int token0 = tile.token_tile(at) * C::kTokens;
    // Chunk `number` of this block's share; the residual of the first two is under way during the
    // multiplication.
    auto fetch = [&](int number) {
      if (number >= C::kRowTiles * chunks) return;
      const int chunk = first / kChunk + number % chunks;
      const int begin = max(first, chunk * kChunk), end = min(last, chunk * kChunk + kChunk);
      const Out out(p, row0 + number / chunks * 64, token0, position);
      out.fetch_residual(s.staging(warpgroup, number & 1) + begin % kChunk * 8 * Out::kPitch, begin * 8,
                         (end - begin) * 8);
    };
    named_barrier_sync(barrier, 128);  // the staging buffers of the previous tile have been read
    if (p.residual) {
      fetch(0);
      fetch(1);
    }
    typename C::Accumulators acc;
    multiply<C>(p, s, at, warpgroup, lead, ring, acc);
    if (p.split > 1) reduce_split<C>(p, s, at, warpgroup, share, acc);
    if (p.row_stats) mbarrier_wait(s.scale_full(), phase);
#pragma unroll
    for (int i = 0; i < C::kRowTiles; ++i) {
      const Out out(p, row0 + i * 64, token0, position);
      const auto finish = [&]<int kIndex>() {
        if constexpr (kIndex * kChunk < C::kGroups) {
          if (kIndex * kChunk + kChunk <= first || kIndex * kChunk >= last) return;
          const int number = i * chunks + kIndex - first / kChunk;
          finish_chunk<C, kIndex>(out, acc[i], s.scales(), s.staging(warpgroup, number & 1), barrier, first,
                                  last);
          if (p.residual && number + 2 < C::kRowTiles * chunks) {
            named_barrier_sync(barrier, 128);
            fetch(number + 2);
          }
        }
      };
      finish.template operator()<0>();
      finish.template operator()<1>();
      finish.template operator()<2>();
      finish.template operator()<3>();
    }
    if (p.row_stats) {
      __syncwarp();
      if (lane_id() == 0) mbarrier_arrive(s.scale_empty());
    }
  }
}

template <class C>
__device__ __forceinline__ void linear(const LinearParams& p) {
  extern __shared__ __align__(1024) uint8_t shared_memory[];
  const Shared<C> s{shared_memory};
  const Place at(p);
  const bool clustered = p.cluster_rows * p.cluster_tokens * p.split > 1;
  const int warp = warp_id();
  if (threadIdx.x == 0) {
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
  }
  if (clustered)
    cluster_sync();
  else
    __syncthreads();

  if (warp >= 4 * C::kWarpgroups) {
    register_decrease<C::kProducerRegisters>();
    if (warp == 4 * C::kWarpgroups) {
      if (elect_one()) produce<C>(p, s, at);
    } else if (p.row_stats) {
      token_scales<C>(p, s, at, warp - 4 * C::kWarpgroups - 1);
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
