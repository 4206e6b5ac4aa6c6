// Attention with wgmma for few key/value heads: the query heads of a group are packed into rows (row = token · group
// + head), keys are split over the blocks of a cluster, which merge their partial results through distributed shared
// memory in the same launch. One producer warp streams K and V tiles; each warpgroup owns 64 rows.
#include "cuda/kernels/common/attention_sm90.cuh"

namespace flashrt {
namespace {

template <int kDim, int kValue, int kGroups, int kKeys, int kStagesK, int kStagesV, int kPair, bool kTakeTurns>
struct Split {
  static constexpr int D = kDim, V = kValue, G = kGroups, T = kKeys, KS = kStagesK, VS = kStagesV, R = kPair;
  static constexpr bool kTurns = kTakeTurns;  // the two warpgroups issue their products alternately
  // Two consumer warpgroups need more than a third of the registers each: the producer's warpgroup cedes its own.
  static constexpr bool kMoveRegisters = G > 1;
  static constexpr int kRows = 64 * G, kConsumers = 128 * G, kThreads = kConsumers + (kMoveRegisters ? 128 : 32);
  static constexpr int kPanelQ = kRows * 128, kPanelT = T * 128;  // 64-column panels, 128-byte rows
  static constexpr int kBytesQ = D / 64 * kPanelQ, kBytesK = D / 64 * kPanelT, kBytesV = V / 64 * kPanelT;
  static constexpr int kUnits = V / 16;  // output columns are merged and stored in units of 16
};

struct Barriers {
  Mbarrier q, tail, merge, k_full[4], k_empty[4], v_full[4], v_empty[4];
};
static_assert(sizeof(Barriers) <= 256);

// Where this block stands: its split, its row tile, its column slice.
struct Place {
  int split, pair, splits;              // rank in the cluster = pair · splits + split
  int first_token, last_cluster_token;  // of the segment
  int kv_head, column, segment;
};

template <class S>
__device__ __forceinline__ Place find_place(const AttentionArgs& a) {
  Place w;
  const int rank = cluster_rank();
  w.splits = a.splits;
  w.split = rank % a.splits;
  w.pair = rank / a.splits;
  const int first_tile = blockIdx.x / (a.splits * S::R) * S::R;
  w.first_token = (first_tile + w.pair) * a.tile_tokens;
  w.last_cluster_token = min(a.params.rows_q, (first_tile + S::R) * a.tile_tokens) - 1;
  w.kv_head = blockIdx.y / (S::D / S::V);
  w.column = blockIdx.y % (S::D / S::V) * S::V;
  w.segment = blockIdx.z;
  return w;
}

// The key tiles of this block.
struct Span {
  int keys;   // valid keys of the segment
  int first;  // first key of the first tile
  int tiles;
};

template <class S>
__device__ __forceinline__ Span find_span(const AttentionParams& p, const Place& w) {
  Span r;
  r.keys = attention_keys(p);
  const int tiles = (attention_limit(p, r.keys, w.last_cluster_token) + S::T - 1) / S::T;
  const int most = (tiles + w.splits - 1) / w.splits;
  r.first = w.split * most * S::T;
  r.tiles = max(0, min(most, tiles - w.split * most));
  return r;
}

// The producer warp: K and V tiles into their rings, q after the predecessor has finished.
template <class S>
__device__ __forceinline__ void produce(const AttentionMaps& maps, const AttentionArgs& a, const Place& w,
                                        uint8_t* smem, Barriers& bar) {
  const AttentionParams& p = a.params;
  uint8_t* ring_k = smem + S::kBytesQ;
  uint8_t* ring_v = ring_k + S::KS * S::kBytesK;
  const bool leader = elect_one();
  const int base = w.segment * p.rows_k;
  const uint16_t both = static_cast<uint16_t>((1u << w.split) | (1u << (w.splits + w.split)));

  auto load = [&](const Span& span, int j) {
    if (!leader) return;
    const int key = base + span.first + j * S::T, sk = j % S::KS, sv = j % S::VS;
    mbarrier_wait(&bar.k_empty[sk], (j / S::KS & 1) ^ 1);
    mbarrier_arrive_expect_tx(&bar.k_full[sk], S::kBytesK);
#pragma unroll
    for (int i = 0; i < S::D / 64; ++i) {
      uint8_t* dst = ring_k + sk * S::kBytesK + i * S::kPanelT;
      if constexpr (S::R == 1) {
        tma_load_3d(dst, &maps.k, &bar.k_full[sk], i * 64, w.kv_head, key, L2Hint::evict_last);
      } else if (i % S::R == w.pair) {
        tma_load_3d_multicast(dst, &maps.k, &bar.k_full[sk], i * 64, w.kv_head, key, both, L2Hint::evict_last);
      }
    }
    mbarrier_wait(&bar.v_empty[sv], (j / S::VS & 1) ^ 1);
    mbarrier_arrive_expect_tx(&bar.v_full[sv], S::kBytesV);
#pragma unroll
    for (int i = 0; i < S::V / 64; ++i) {
      uint8_t* dst = ring_v + sv * S::kBytesV + i * S::kPanelT;
      const int x = w.column + i * 64;
      if constexpr (S::R == 1) {
        tma_load_3d(dst, &maps.v, &bar.v_full[sv], x, w.kv_head, key, L2Hint::evict_last);
      } else if (i % S::R == w.pair) {
        tma_load_3d_multicast(dst, &maps.v, &bar.v_full[sv], x, w.kv_head, key, both, L2Hint::evict_last);
      }
    }
  };

  Span span{};
  int j = 0;
  if (p.settled_prefix) {
    span = find_span<S>(p, w);
    const int settled = span.keys - p.rows_q;
    for (; j < min(span.tiles, min(S::KS, S::VS)) && span.first + (j + 1) * S::T <= settled; ++j) load(span, j);
  }
  pdl_wait();
  const int group = p.heads / p.kv_heads;
  if (leader) {
    mbarrier_arrive_expect_tx(&bar.q, S::D / 64 * a.tile_tokens * group * 128);
#pragma unroll
    for (int i = 0; i < S::D / 64; ++i) {
      tma_load_3d(smem + i * S::kPanelQ, &maps.q, &bar.q, i * 64, w.kv_head * group,
                  w.segment * p.rows_q + w.first_token);
    }
  }
  if (!p.settled_prefix) span = find_span<S>(p, w);
  for (; j < span.tiles; ++j) load(span, j);
  __syncwarp();

  // Rows of V beyond the valid keys hold anything, even NaN, and 0 · NaN is NaN: clear them.
  const int last = span.tiles - 1, valid = span.keys - (span.first + last * S::T);
  if (span.tiles > 0 && valid < S::T) {
    mbarrier_wait(&bar.v_full[last % S::VS], last / S::VS & 1);
    uint8_t* tile = ring_v + last % S::VS * S::kBytesV;
    for (int i = lane_id(); i < (S::T - valid) * (S::V / 8); i += 32) {
      const int row = valid + i / (S::V / 8), chunk = i % (S::V / 8);
      *reinterpret_cast<uint4*>(tile + chunk / 8 * S::kPanelT + row * 128 + chunk % 8 * 16) = make_uint4(0, 0, 0, 0);
    }
    fence_proxy_async();
    __syncwarp();
    if (leader) mbarrier_arrive(&bar.tail);
  }
}

// s = q · kᵀ for this warpgroup's 64 rows and one tile of keys.
template <class S>
__device__ __forceinline__ void scores(float (&s)[S::T / 2], uint32_t q, uint32_t k) {
  const uint64_t dq = descriptor_k_major(q), dk = descriptor_k_major(k);
#pragma unroll
  for (int i = 0; i < S::D / 16; ++i) {
    const int panel = i / 4, step = i % 4;
    wgmma_ss<S::T>(s, dq + (panel * S::kPanelQ >> 4) + step * kDescriptorNextK,
                   dk + (panel * S::kPanelT >> 4) + step * kDescriptorNextK, i > 0);
  }
  wgmma_commit();
}

// o += p · v over one tile of keys.
template <class S>
__device__ __forceinline__ void accumulate(float (&o)[S::V / 2], const uint32_t (&p)[S::T / 16][4], uint32_t v) {
  const uint64_t dv = descriptor_mn_major(v, S::kPanelT);
#pragma unroll
  for (int i = 0; i < S::T / 16; ++i) wgmma_rs<S::V, true>(o, p[i], dv + i * kDescriptorNextKTransposed, 1);
  wgmma_commit();
}

// Frees a ring slot: every warp of every block that reads the same stream arrives.
template <class S>
__device__ __forceinline__ void release(Mbarrier* empty, const Place& w) {
  if constexpr (S::R == 1) {
    if (lane_id() == 0) mbarrier_arrive(empty);
  } else {
    if (lane_id() < 2) mbarrier_arrive_remote(empty, lane_id() * w.splits + w.split);
  }
}

// First of the units (16 output columns) that split `rank` of N owns: unit u belongs to split u · N / units.
template <class S, int N>
__device__ __forceinline__ constexpr int first_unit(int rank) {
  return (rank * S::kUnits + N - 1) / N;
}

// Sends the parts of the output that other splits own, receives ours, and leaves Σ w·o in `o` (for owned units) and
// Σ w·l in `sum`. The merge area lies over q and the key ring, dead in every block after the cluster barrier.
template <class S, int N>
__device__ __forceinline__ void merge(float (&o)[S::V / 2], SoftmaxRows& rows, const Place& w, uint8_t* area,
                                      Barriers& bar, const bool (&valid)[2], int row) {
  constexpr int U = S::kUnits, kMost = (U + N - 1) / N;
  constexpr int kPlane = S::kConsumers * 16, kSlot = kMost * 2 * kPlane;  // a float4 per thread; per sender
  const int t = threadIdx.x;
  float2* cells = reinterpret_cast<float2*>(area + (N - 1) * kSlot);  // (top, sum) of [split, row]
  const uint32_t parts = smem_u32(area) + t * 16, stats = smem_u32(cells + w.split * S::kRows + row);
  const uint32_t done = smem_u32(&bar.merge), base = w.pair * N;

#pragma unroll
  for (int to = 0; to < N; ++to) {
    if (to == w.split) continue;
    const uint32_t remote = map_to_rank(done, base + to), cell = map_to_rank(stats, base + to);
    const uint32_t part = map_to_rank(parts + (w.split < to ? w.split : w.split - 1) * kSlot, base + to);
    const bool sender = (t & 3) == (to & 3);
    st_async_f2(sender && valid[0], cell, remote, rows.top[0], rows.sum[0]);
    st_async_f2(sender && valid[1], cell + 64, remote, rows.top[1], rows.sum[1]);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u * N / U != to) continue;
      const uint32_t plane = part + (u - first_unit<S, N>(to)) * 2 * kPlane;
      st_async_f4(valid[0], plane, remote, o[8 * u], o[8 * u + 1], o[8 * u + 4], o[8 * u + 5]);
      st_async_f4(valid[1], plane + kPlane, remote, o[8 * u + 2], o[8 * u + 3], o[8 * u + 6], o[8 * u + 7]);
    }
  }
  mbarrier_wait_cluster(&bar.merge, 0);

  float weight[N][2], best[2] = {rows.top[0], rows.top[1]};
  float2 cell[N][2];
#pragma unroll
  for (int from = 0; from < N; ++from) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool mine = from == w.split || !valid[h];
      cell[from][h] = mine ? make_float2(rows.top[h], rows.sum[h]) : cells[from * S::kRows + row + 8 * h];
      best[h] = fmaxf(best[h], cell[from][h].x);
    }
  }
  rows.sum[0] = rows.sum[1] = 0.f;
#pragma unroll
  for (int from = 0; from < N; ++from) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      weight[from][h] = exp2_fast(cell[from][h].x - (best[h] == -INFINITY ? 0.f : best[h]));
      rows.sum[h] += weight[from][h] * cell[from][h].y;
    }
  }
  // Every unit adds the splits in the order 0 … N−1, whoever owns it: the same bits from run to run.
#pragma unroll
  for (int own = 0; own < N; ++own) {
    if (own != w.split) continue;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (u * N / U != own) continue;
      const uint8_t* plane = area + t * 16 + (u - first_unit<S, N>(own)) * 2 * kPlane;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float* x = o + 8 * u + 2 * h;
        float sum[4] = {};
#pragma unroll
        for (int from = 0; from < N; ++from) {
          float4 y = make_float4(x[0], x[1], x[4], x[5]);
          if (from != own && valid[h]) {
            y = *reinterpret_cast<const float4*>(plane + (from < own ? from : from - 1) * kSlot + h * kPlane);
          }
          sum[0] += weight[from][h] * y.x;
          sum[1] += weight[from][h] * y.y;
          sum[2] += weight[from][h] * y.z;
          sum[3] += weight[from][h] * y.w;
        }
        x[0] = sum[0], x[1] = sum[1], x[4] = sum[2], x[5] = sum[3];
      }
    }
  }
}

template <class S>
__device__ __forceinline__ void consume(const AttentionArgs& a, const Place& w, uint8_t* smem, Barriers& bar) {
  const AttentionParams& p = a.params;
  const int warp = warp_id(), row = warp * 16 + lane_id() / 4, group = p.heads / p.kv_heads;
  const uint32_t q = smem_u32(smem) + warp / 4 * 64 * 128;
  const uint32_t ring_k = smem_u32(smem) + S::kBytesQ, ring_v = ring_k + S::KS * S::kBytesK;
  int token[2];
  bool valid[2];
  __nv_bfloat16* out[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int local = (row + 8 * h) / group, head = w.kv_head * group + row + 8 * h - local * group;
    token[h] = w.first_token + local;
    valid[h] = local < a.tile_tokens && token[h] < p.rows_q;
    out[h] = static_cast<__nv_bfloat16*>(p.out) +
             static_cast<int64_t>(w.segment * p.rows_q + token[h]) * p.ld_out + head * S::D + w.column;
  }
  pdl_wait();
  const Span span = find_span<S>(p, w);
  const int limit[2] = {attention_limit(p, span.keys, token[0]), attention_limit(p, span.keys, token[1])};
  const int open = attention_limit(p, span.keys, w.first_token);  // columns below it need no mask
  const float c = p.scale * kLog2e;

  float o[S::V / 2] = {};
  SoftmaxRows rows;
  if (span.tiles > 0) {
    float s[S::T / 2], factor[2];
    uint32_t weights[S::T / 16][4];
    mbarrier_wait(&bar.q, 0);
    mbarrier_wait(&bar.k_full[0], 0);
    wgmma_fence();
    scores<S>(s, q, ring_k);
    wgmma_wait<0>();
    wgmma_pin(s);
    release<S>(&bar.k_empty[0], w);
    int key = span.first;
    if (key + S::T > open) mask_scores(s, key + 2 * (threadIdx.x & 3), limit);
    rows.update(s, c, factor);
    pack_weights(s, weights);

    const int side = warp / 4;
    if (S::kTurns && side == 1) named_barrier_arrive(1, S::kConsumers);
    for (int j = 1; j < span.tiles; ++j) {
      const int sk = j % S::KS, sv = (j - 1) % S::VS;
      key += S::T;
      mbarrier_wait(&bar.k_full[sk], j / S::KS & 1);
      if (S::kTurns) named_barrier_sync(1 + side, S::kConsumers);
      wgmma_fence();
      scores<S>(s, q, ring_k + sk * S::kBytesK);
      mbarrier_wait(&bar.v_full[sv], (j - 1) / S::VS & 1);
      wgmma_fence();
      accumulate<S>(o, weights, ring_v + sv * S::kBytesV);
      if (S::kTurns && (side == 0 || j + 1 < span.tiles)) named_barrier_arrive(2 - side, S::kConsumers);
      wgmma_wait<1>();
      wgmma_pin(s);
      release<S>(&bar.k_empty[sk], w);
      if (key + S::T > open) mask_scores(s, key + 2 * (threadIdx.x & 3), limit);
      const bool changed = rows.update(s, c, factor);
      wgmma_pin(s);
      after(rows.sum[0] + rows.sum[1]);  // the softmax runs while the product above is in flight
      wgmma_wait<0>();
      wgmma_pin(o);
      release<S>(&bar.v_empty[sv], w);
      if (changed) {
#pragma unroll
        for (int i = 0; i < S::V / 2; ++i) o[i] *= factor[i >> 1 & 1];
      }
      pack_weights(s, weights);
    }
    if (w.splits > 1) cluster_arrive_relaxed();  // q and K are read; the merge area may be written
    const int last = span.tiles - 1, sv = last % S::VS;
    mbarrier_wait(&bar.v_full[sv], last / S::VS & 1);
    if (key + S::T > span.keys) mbarrier_wait(&bar.tail, 0);
    wgmma_fence();
    accumulate<S>(o, weights, ring_v + sv * S::kBytesV);
    wgmma_wait<0>();
    wgmma_pin(o);
  } else {
    mbarrier_wait(&bar.q, 0);  // no copy may be in flight into the merge area
    if (w.splits > 1) cluster_arrive_relaxed();
  }
  rows.sum[0] = quad_sum(rows.sum[0]);
  rows.sum[1] = quad_sum(rows.sum[1]);
  if (w.splits > 1) {
    cluster_wait();
    switch (w.splits) {
      case 2: merge<S, 2>(o, rows, w, smem, bar, valid, row); break;
      case 3: merge<S, 3>(o, rows, w, smem, bar, valid, row); break;
      case 4: merge<S, 4>(o, rows, w, smem, bar, valid, row); break;
      case 6: merge<S, 6>(o, rows, w, smem, bar, valid, row); break;
      case 8: merge<S, 8>(o, rows, w, smem, bar, valid, row); break;
    }
  }

  float inverse[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) inverse[h] = rows.sum[h] > 0.f ? 1.f / rows.sum[h] : 0.f;
#pragma unroll
  for (int u = 0; u < S::kUnits; ++u) {
    if (u * w.splits / S::kUnits != w.split) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float* x = o + 8 * u + 2 * h;
      store_columns16(out[h] + 16 * u, valid[h], pack2<__nv_bfloat16>(x[0] * inverse[h], x[1] * inverse[h]),
                      pack2<__nv_bfloat16>(x[4] * inverse[h], x[5] * inverse[h]));
    }
  }
}

template <class S>
__device__ __forceinline__ void attention_split(const AttentionMaps& maps, const AttentionArgs& a) {
  extern __shared__ uint8_t raw[];
  uint8_t* smem = raw + (-smem_u32(raw) & 1023);
  Barriers& bar =
      *reinterpret_cast<Barriers*>(smem + S::kBytesQ + S::KS * S::kBytesK + S::VS * S::kBytesV);
  const Place w = find_place<S>(a);
  if (threadIdx.x == 0) {
    mbarrier_init(&bar.q, 1);
    mbarrier_init(&bar.tail, 1);
    mbarrier_init(&bar.merge, 1);
    for (int i = 0; i < S::KS; ++i) {
      mbarrier_init(&bar.k_full[i], 1);
      mbarrier_init(&bar.k_empty[i], 4 * S::G * S::R);
    }
    for (int i = 0; i < S::VS; ++i) {
      mbarrier_init(&bar.v_full[i], 1);
      mbarrier_init(&bar.v_empty[i], 4 * S::G * S::R);
    }
    fence_barrier_init();
    // What the other splits will send here: (top, sum) of every valid row and their part of the units we own.
    const AttentionParams& p = a.params;
    const int tokens = max(0, min(a.tile_tokens, p.rows_q - w.first_token));
    const int begin = (w.split * S::kUnits + w.splits - 1) / w.splits;
    const int end = ((w.split + 1) * S::kUnits + w.splits - 1) / w.splits;
    mbarrier_arrive_expect_tx(&bar.merge,
                              tokens * (p.heads / p.kv_heads) * (w.splits - 1) * (8 + (end - begin) * 64));
    tma_prefetch_descriptor(&maps.k);
    tma_prefetch_descriptor(&maps.v);
    tma_prefetch_descriptor(&maps.q);
  }
  pdl_launch();
  if (a.splits * S::R > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  } else {
    __syncthreads();
  }
  if (warp_id() >= 4 * S::G) {
    if constexpr (S::kMoveRegisters) register_decrease<40>();
    if (warp_id() == 4 * S::G) produce<S>(maps, a, w, smem, bar);
    if (w.splits > 1) {
      cluster_arrive_relaxed();
      cluster_wait();
    }
  } else {
    if constexpr (S::kMoveRegisters) register_increase<232>();
    consume<S>(a, w, smem, bar);
  }
}

}  // namespace

#define FLASHRT_INSTANCE(name, ...)                                                                    \
  extern "C" __global__ void __launch_bounds__(Split<__VA_ARGS__>::kThreads, 1)                        \
      name(const __grid_constant__ AttentionMaps maps, const __grid_constant__ AttentionArgs a) { \
    attention_split<Split<__VA_ARGS__>>(maps, a);                                                      \
  }
FLASHRT_ATTENTION_SPLIT(FLASHRT_INSTANCE)
#undef FLASHRT_INSTANCE

}  // namespace flashrt
