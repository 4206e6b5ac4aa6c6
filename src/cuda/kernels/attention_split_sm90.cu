// Attention with wgmma for few key/value heads: the query heads of a group are packed into rows
// (row = token · group + head), keys are split over the blocks of a cluster, which merge their partial
// results through distributed shared memory in the same launch. One producer warp streams K and V tiles; each
// warpgroup owns 64 rows.
#include "cuda/kernels/common/attention_merge_sm90.cuh"

namespace flashrt {
namespace {

template <int kDim, int kValue, int kGroups, int kKeys, int kStagesK, int kStagesV>
struct Split {
  static constexpr int D = kDim, V = kValue, G = kGroups, T = kKeys, KS = kStagesK, VS = kStagesV;
  // Two consumer warpgroups need more than a third of the registers each: the producer's warpgroup cedes
  // some.
  static constexpr bool kMoveRegisters = G > 1;
  static constexpr int kRows = 64 * G, kConsumers = 128 * G,
                       kThreads = kConsumers + (kMoveRegisters ? 128 : 32);
  static constexpr int kPanelQ = kRows * 128, kPanelT = T * 128;  // 64-column panels, 128-byte rows
  static constexpr int kBytesQ = D / 64 * kPanelQ, kBytesK = D / 64 * kPanelT, kBytesV = V / 64 * kPanelT;
  static constexpr int kUnits = V / 16;  // output columns are merged and stored in units of 16
};

struct Barriers {
  Mbarrier q, tail, merge, k_full[4], k_empty[4], v_full[4], v_empty[4];
};
static_assert(sizeof(Barriers) <= 256);

// Where this block stands: its split of the keys, its rows, its column slice.
struct Place {
  int split, splits;      // the rank in the cluster, its size
  int first_token, rows;  // of the segment; valid packed rows
  int group, per_group;   // query heads per key/value head, ⌈2^16 / group⌉
  int kv_head, column, segment;
  __device__ int token_of(int row) const { return row * per_group >> 16; }
};

template <class S>
__device__ __forceinline__ Place find_place(const AttentionArgs& a) {
  const AttentionParams& p = a.params;
  Place w;
  w.splits = a.splits;
  w.split = blockIdx.x % a.splits;
  w.first_token = blockIdx.x / a.splits * a.tile_tokens;
  w.group = p.heads / p.kv_heads;
  w.per_group = (65535 + w.group) / w.group;
  w.rows = min(a.tile_tokens, p.rows_q - w.first_token) * w.group;
  w.kv_head = blockIdx.y / (S::D / S::V);
  w.column = blockIdx.y % (S::D / S::V) * S::V;
  w.segment = blockIdx.z;
  return w;
}

// The keys of this block: `tiles` tiles of T keys, of which the last is used in a width of a multiple of 16.
struct Span {
  int keys;         // valid keys of the segment
  int first, last;  // key range of this split, end exclusive
  int tiles, width;
};

template <class S>
__device__ __forceinline__ Span find_span(const AttentionParams& p, const Place& w, int keys,
                                          int tile_tokens) {
  Span r;
  r.keys = keys;
  const int visible = attention_limit(p, keys, min(p.rows_q, w.first_token + tile_tokens) - 1);
  const int most = ((visible + w.splits - 1) / w.splits + 15) & ~15;
  r.first = min(w.split * most, visible);
  r.last = min(r.first + most, visible);
  r.tiles = (r.last - r.first + S::T - 1) / S::T;
  r.width = (r.last - r.first - (r.tiles - 1) * S::T + 15) & ~15;
  if ((S::G > 1) == (r.tiles == 1)) r.width = S::T;  // not instantiated in narrower widths
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

  auto load = [&](const Span& span, int j) {
    if (!leader) return;
    const int key = w.segment * p.rows_k + span.first + j * S::T, sk = j % S::KS, sv = j % S::VS;
    mbarrier_wait(&bar.k_empty[sk], (j / S::KS & 1) ^ 1);
    mbarrier_arrive_expect_tx(&bar.k_full[sk], S::kBytesK);
#pragma unroll
    for (int i = 0; i < S::D / 64; ++i) {
      tma_load_3d(ring_k + sk * S::kBytesK + i * S::kPanelT, &maps.k, &bar.k_full[sk], i * 64, w.kv_head, key,
                  L2Hint::evict_last);
    }
    mbarrier_wait(&bar.v_empty[sv], (j / S::VS & 1) ^ 1);
    mbarrier_arrive_expect_tx(&bar.v_full[sv], S::kBytesV);
#pragma unroll
    for (int i = 0; i < S::V / 64; ++i) {
      tma_load_3d(ring_v + sv * S::kBytesV + i * S::kPanelT, &maps.v, &bar.v_full[sv], w.column + i * 64,
                  w.kv_head, key, L2Hint::evict_last);
    }
  };

  Span span{};
  int j = 0;
  if (p.settled_prefix) {
    span = find_span<S>(p, w, attention_keys(p), a.tile_tokens);
    const int settled = span.keys - p.rows_q;
    for (; j < min(span.tiles, min(S::KS, S::VS)); ++j) {
      if (span.first + j * S::T + (j + 1 < span.tiles ? S::T : span.width) > settled) break;
      load(span, j);
    }
    __syncwarp();  // the leader issues these loads before any lane waits
  }
  pdl_wait();
  const int keys = attention_keys(p);
  if (leader) {
    mbarrier_arrive_expect_tx(&bar.q, S::D / 64 * a.tile_tokens * w.group * 128);
#pragma unroll
    for (int i = 0; i < S::D / 64; ++i) {
      tma_load_3d(smem + i * S::kPanelQ, &maps.q, &bar.q, i * 64, w.kv_head * w.group,
                  w.segment * p.rows_q + w.first_token);
    }
  }
  if (!p.settled_prefix) span = find_span<S>(p, w, keys, a.tile_tokens);
  for (; j < span.tiles; ++j) load(span, j);
  __syncwarp();

  // Rows of V beyond the valid keys hold anything, even NaN, and 0 · NaN is NaN: clear them.
  const int last = span.tiles - 1, valid = span.keys - (span.first + last * S::T);
  if (span.tiles > 0 && valid < span.width) {
    mbarrier_wait(&bar.v_full[last % S::VS], last / S::VS & 1);
    uint8_t* tile = ring_v + last % S::VS * S::kBytesV;
    for (int i = lane_id(); i < (span.width - valid) * (S::V / 8); i += 32) {
      const int row = valid + i / (S::V / 8), chunk = i % (S::V / 8);
      *reinterpret_cast<uint4*>(tile + chunk / 8 * S::kPanelT + row * 128 + chunk % 8 * 16) =
          make_uint4(0, 0, 0, 0);
    }
    fence_proxy_async();
    __syncwarp();
    if (leader) mbarrier_arrive(&bar.tail);
  }
}

// What a consumer thread carries through the tiles.
template <class S>
struct Consumer {
  uint32_t q, ring_k, ring_v;  // shared-memory addresses
  Barriers& bar;
  Span span;
  bool merges;         // other splits will write to our q and K
  int limit[2], open;  // keys visible to the thread's two rows; keys that every row of the block sees
  float c;             // scale · log2 e
  SoftmaxRows rows;
  float o[S::V / 2];
};

// s = q · kᵀ for this warpgroup's 64 rows and the first W keys of tile j.
template <class S, int W>
__device__ __forceinline__ void issue_scores(const Consumer<S>& t, float (&s)[W / 2], int j) {
  mbarrier_wait(&t.bar.k_full[j % S::KS], j / S::KS & 1);
  const uint64_t dq = descriptor_k_major(t.q), dk = descriptor_k_major(t.ring_k + j % S::KS * S::kBytesK);
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < S::D / 16; ++i) {
    const int panel = i / 4, step = i % 4;
    wgmma_ss<W>(s, dq + (panel * S::kPanelQ >> 4) + step * kDescriptorNextK,
                dk + (panel * S::kPanelT >> 4) + step * kDescriptorNextK, i > 0);
  }
  wgmma_commit();
}

// o += p · v over the first W keys of tile j.
template <class S, int W>
__device__ __forceinline__ void issue_product(Consumer<S>& t, const uint32_t (&p)[W / 16][4], int j) {
  mbarrier_wait(&t.bar.v_full[j % S::VS], j / S::VS & 1);
  const uint64_t dv = descriptor_mn_major(t.ring_v + j % S::VS * S::kBytesV, S::kPanelT);
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < W / 16; ++i) wgmma_rs<S::V, true>(t.o, p[i], dv + i * kDescriptorNextKTransposed, 1);
  wgmma_commit();
}

template <class S, int W>
__device__ __forceinline__ void mask_tile(const Consumer<S>& t, float (&s)[W / 2], int j) {
  const int key = t.span.first + j * S::T;
  if (key + W > t.open) mask_scores(s, key + 2 * (threadIdx.x & 3), t.limit);
}

// Tile 0: scores, then weights.
template <class S, int W>
__device__ __forceinline__ void first_tile(Consumer<S>& t, uint32_t (&p)[W / 16][4]) {
  float s[W / 2], factor[2];
  issue_scores<S, W>(t, s, 0);
  wgmma_wait<0>();
  wgmma_pin(s);
  if (lane_id() == 0) mbarrier_arrive(&t.bar.k_empty[0]);
  mask_tile<S, W>(t, s, 0);
  t.rows.update(s, t.c, factor);
  pack_weights(s, p);
}

// Tile j > 0: its scores and softmax run beside the product of tile j − 1, whose weights are `before`.
template <class S, int W>
__device__ __forceinline__ void next_tile(Consumer<S>& t, int j, const uint32_t (&before)[S::T / 16][4],
                                          uint32_t (&p)[W / 16][4]) {
  float s[W / 2], factor[2];
  issue_scores<S, W>(t, s, j);
  issue_product<S, S::T>(t, before, j - 1);
  wgmma_wait<1>();
  wgmma_pin(s);
  if (lane_id() == 0) mbarrier_arrive(&t.bar.k_empty[j % S::KS]);
  mask_tile<S, W>(t, s, j);
  const bool changed = t.rows.update(s, t.c, factor);
  wgmma_pin(s);
  after(t.rows.sum[0] + t.rows.sum[1]);  // the softmax runs in the shadow of the product
  wgmma_wait<0>();
  wgmma_pin(t.o);
  if (lane_id() == 0) mbarrier_arrive(&t.bar.v_empty[(j - 1) % S::VS]);
  if (changed) {
#pragma unroll
    for (int i = 0; i < S::V / 2; ++i) t.o[i] *= factor[i >> 1 & 1];
  }
  pack_weights(s, p);
}

// The last tile, in its width: `before` are the weights of the tile before it, if there is one.
template <class S, int W, bool kOnly>
__device__ __forceinline__ void last_tile(Consumer<S>& t, const uint32_t (&before)[S::T / 16][4]) {
  uint32_t p[W / 16][4];
  const int j = t.span.tiles - 1;
  if constexpr (kOnly) {
    first_tile<S, W>(t, p);
  } else {
    next_tile<S, W>(t, j, before, p);
  }
  if (t.merges)
    cluster_arrive_relaxed();  // this thread has read q and K for the last time: their memory may be reused
  if (t.span.first + j * S::T + W > t.span.keys) mbarrier_wait(&t.bar.tail, 0);
  issue_product<S, W>(t, p, j);
  wgmma_wait<0>();
  wgmma_pin(t.o);
}

template <class S, int W, bool kOnly>
__device__ __forceinline__ void last_tile_of_width(Consumer<S>& t, const uint32_t (&before)[S::T / 16][4]) {
  if constexpr (W > 16) {
    if (t.span.width < W) return last_tile_of_width<S, W - 16, kOnly>(t, before);
  }
  last_tile<S, W, kOnly>(t, before);
}

template <class S>
__device__ __forceinline__ void attend(Consumer<S>& t) {
  uint32_t weights[S::T / 16][4];
  mbarrier_wait(&t.bar.q, 0);
  if (t.span.tiles == 0) {
    if (t.merges) cluster_arrive_relaxed();
  } else if (S::G == 1 && t.span.tiles == 1) {
    last_tile_of_width<S, S::T, true>(t, weights);
  } else if (t.span.tiles == 1) {
    last_tile<S, S::T, true>(t, weights);
  } else {
    first_tile<S, S::T>(t, weights);
    for (int j = 1; j + 1 < t.span.tiles; ++j) next_tile<S, S::T>(t, j, weights, weights);
    if constexpr (S::G == 1) {
      last_tile<S, S::T, false>(t, weights);
    } else {
      last_tile_of_width<S, S::T, false>(t, weights);
    }
  }
}

template <class S>
__device__ __forceinline__ void consume(const AttentionArgs& a, const Place& w, uint8_t* smem,
                                        Barriers& bar) {
  const AttentionParams& p = a.params;
  const int warp = warp_id(), row = warp * 16 + lane_id() / 4;
  const uint32_t base = smem_u32(smem);
  Consumer<S> t{base + warp / 4 * 64 * 128, base + S::kBytesQ, base + S::kBytesQ + S::KS * S::kBytesK, bar};
  t.c = p.scale * kLog2e;
  t.merges = w.splits > 1;
  OutputRows out;
  int token[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    token[h] = w.token_of(row + 8 * h);
    out.valid[h] = row + 8 * h < w.rows;
    out.row[h] = static_cast<__nv_bfloat16*>(p.out) +
                 static_cast<int64_t>(w.segment * p.rows_q + w.first_token + token[h]) * p.ld_out +
                 (w.kv_head * w.group + row + 8 * h - token[h] * w.group) * S::D + w.column;
  }
  pdl_wait();
  t.span = find_span<S>(p, w, attention_keys(p), a.tile_tokens);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    t.limit[h] = min(t.span.last, attention_limit(p, t.span.keys, w.first_token + token[h]));
  }
  t.open = min(t.span.last, attention_limit(p, t.span.keys, w.first_token));
  attend(t);
  t.rows.sum[0] = quad_sum(t.rows.sum[0]);
  t.rows.sum[1] = quad_sum(t.rows.sum[1]);
  if (w.splits == 1) {
    float scale[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) scale[h] = t.rows.sum[h] > 0.f ? __fdividef(1.f, t.rows.sum[h]) : 0.f;
#pragma unroll
    for (int u = 0; u < S::kUnits; ++u) out.store(u, t.o + 8 * u, scale);
    return;
  }
  cluster_wait();  // q and K are dead in every block of the cluster
  switch (w.splits) {
    case 2: return merge_splits<S::V, S::kConsumers, 2>(t.o, t.rows, w.split, smem, &bar.merge, out);
    case 3: return merge_splits<S::V, S::kConsumers, 3>(t.o, t.rows, w.split, smem, &bar.merge, out);
    case 4: return merge_splits<S::V, S::kConsumers, 4>(t.o, t.rows, w.split, smem, &bar.merge, out);
    case 6: return merge_splits<S::V, S::kConsumers, 6>(t.o, t.rows, w.split, smem, &bar.merge, out);
    case 8: return merge_splits<S::V, S::kConsumers, 8>(t.o, t.rows, w.split, smem, &bar.merge, out);
  }
}

template <class S>
__device__ __forceinline__ void attention_split(const AttentionMaps& maps, const AttentionArgs& a) {
  extern __shared__ uint8_t raw[];
  uint8_t* smem = raw + (-smem_u32(raw) & 1023);
  Barriers& bar = *reinterpret_cast<Barriers*>(smem + S::kBytesQ + S::KS * S::kBytesK + S::VS * S::kBytesV);
  const Place w = find_place<S>(a);
  if (threadIdx.x == 0) {
    mbarrier_init(&bar.q, 1);
    mbarrier_init(&bar.tail, 1);
    mbarrier_init(&bar.merge, 1);
    for (int i = 0; i < S::KS; ++i) {
      mbarrier_init(&bar.k_full[i], 1);
      mbarrier_init(&bar.k_empty[i], 4 * S::G);
    }
    for (int i = 0; i < S::VS; ++i) {
      mbarrier_init(&bar.v_full[i], 1);
      mbarrier_init(&bar.v_empty[i], 4 * S::G);
    }
    fence_barrier_init();
    mbarrier_arrive_expect_tx(&bar.merge, merge_bytes(S::kUnits, w.split, w.splits, w.rows));
    tma_prefetch_descriptor(&maps.k);
    tma_prefetch_descriptor(&maps.v);
    tma_prefetch_descriptor(&maps.q);
  }
  pdl_launch();
  __syncwarp();
  cluster_arrive_relaxed();
  cluster_wait();
  if (warp_id() >= 4 * S::G) {
    if constexpr (S::kMoveRegisters) register_decrease<40>();
    if (warp_id() == 4 * S::G) produce<S>(maps, a, w, smem, bar);
    __syncwarp();
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

#define FLASHRT_INSTANCE(name, ...)                                                               \
  extern "C" __global__ void __launch_bounds__(Split<__VA_ARGS__>::kThreads, 1)                   \
      name(const __grid_constant__ AttentionMaps maps, const __grid_constant__ AttentionArgs a) { \
    attention_split<Split<__VA_ARGS__>>(maps, a);                                                 \
  }
FLASHRT_ATTENTION_SPLIT(FLASHRT_INSTANCE)
#undef FLASHRT_INSTANCE

}  // namespace flashrt
