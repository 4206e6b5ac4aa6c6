// Attention with wgmma for many small segments (vision towers): one block per row tile, head and segment
// holds all keys of the segment (at most 256) in shared memory. Head dimensions 64 + tail, tail ≤ 16: the
// columns beyond 64 live in a narrow second tile whose missing columns the copy engine fills with zeros.
#include "cuda/kernels/common/attention_sm90.cuh"

namespace flashrt {
namespace {

constexpr int kHalf = 128, kKeys = 2 * kHalf;
static_assert(kKeys == kAttentionSegmentKeys);
constexpr int kWide = 128, kNarrow = 32;  // bytes of a row in the two tiles

struct SegmentBarriers {
  Mbarrier first, second, values;  // q and keys 0–127, keys 128–255, v
};

template <int G>
struct SegmentTiles {
  uint8_t *q, *q_tail, *k, *k_tail, *v, *v_tail;
  SegmentBarriers* bar;
  __device__ explicit SegmentTiles(uint8_t* smem) {
    q = smem;
    q_tail = q + G * 64 * kWide;
    k = q_tail + G * 64 * kNarrow;
    k_tail = k + kKeys * kWide;
    v = k_tail + kKeys * kNarrow;
    v_tail = v + kKeys * kWide;
    bar = reinterpret_cast<SegmentBarriers*>(v_tail + kKeys * kNarrow);
  }
};

template <int G>
__device__ __forceinline__ void load_segment(const AttentionMaps& maps, const AttentionParams& p,
                                             const SegmentTiles<G>& t, int head, int row, int key) {
  constexpr int kHalfBytes = kHalf * (kWide + kNarrow);
  const int kv_head = head / (p.heads / p.kv_heads);
  mbarrier_arrive_expect_tx(&t.bar->first, G * 64 * (kWide + kNarrow) + kHalfBytes);
  tma_load_3d(t.q, &maps.q, &t.bar->first, 0, head, row);
  tma_load_3d(t.k, &maps.k, &t.bar->first, 0, kv_head, key);
  tma_load_3d(t.q_tail, &maps.q_tail, &t.bar->first, 64, head, row);
  tma_load_3d(t.k_tail, &maps.k_tail, &t.bar->first, 64, kv_head, key);
  mbarrier_arrive_expect_tx(&t.bar->second, kHalfBytes);
  tma_load_3d(t.k + kHalf * kWide, &maps.k, &t.bar->second, 0, kv_head, key + kHalf);
  tma_load_3d(t.k_tail + kHalf * kNarrow, &maps.k_tail, &t.bar->second, 64, kv_head, key + kHalf);
  mbarrier_arrive_expect_tx(&t.bar->values, 2 * kHalfBytes);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    tma_load_3d(t.v + h * kHalf * kWide, &maps.v, &t.bar->values, 0, kv_head, key + h * kHalf);
    tma_load_3d(t.v_tail + h * kHalf * kNarrow, &maps.v_tail, &t.bar->values, 64, kv_head, key + h * kHalf);
  }
}

// s = q · kᵀ over 128 keys; the narrow tile is the fifth step of 16.
__device__ __forceinline__ void scores(float (&s)[kHalf / 2], uint32_t q, uint32_t q_tail, uint32_t k,
                                       uint32_t k_tail) {
  const uint64_t dq = descriptor_k_major(q), dk = descriptor_k_major(k);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    wgmma_ss<kHalf>(s, dq + i * kDescriptorNextK, dk + i * kDescriptorNextK, i > 0);
  }
  wgmma_ss<kHalf>(s, descriptor_narrow(q_tail), descriptor_narrow(k_tail), 1);
  wgmma_commit();
}

// o += p · v over 128 keys, columns 0–63 and the tail.
__device__ __forceinline__ void accumulate(float (&o)[32], float (&o_tail)[8],
                                           const uint32_t (&p)[kHalf / 16][4], uint32_t v, uint32_t v_tail) {
  const uint64_t dv = descriptor_mn_major(v, kKeys * kWide), dt = descriptor_narrow(v_tail);
#pragma unroll
  for (int i = 0; i < kHalf / 16; ++i) {
    wgmma_rs<64, true>(o, p[i], dv + i * kDescriptorNextKTransposed, 1);
    wgmma_rs<16, true>(o_tail, p[i], dt + i * kNarrowNextK, 1);
  }
  wgmma_commit();
}

// Rows of V beyond the valid keys hold anything, even NaN, and 0 · NaN is NaN: clear them. All threads call
// it.
template <int G>
__device__ __forceinline__ void clear_values(const SegmentTiles<G>& t, int keys) {
  for (int i = keys * (kWide / 16) + threadIdx.x; i < kKeys * (kWide / 16); i += G * 128) {
    reinterpret_cast<uint4*>(t.v)[i] = make_uint4(0, 0, 0, 0);
  }
  for (int i = keys * (kNarrow / 16) + threadIdx.x; i < kKeys * (kNarrow / 16); i += G * 128) {
    reinterpret_cast<uint4*>(t.v_tail)[i] = make_uint4(0, 0, 0, 0);
  }
  fence_proxy_async();
  __syncthreads();
}

template <int D, int G>
__device__ __forceinline__ void attention_segment(const AttentionMaps& maps, const AttentionParams& p) {
  extern __shared__ uint8_t raw[];
  const SegmentTiles<G> t(raw + (-smem_u32(raw) & 1023));
  const int first_row = blockIdx.x * G * 64, head = blockIdx.y, segment = blockIdx.z;
  if (threadIdx.x == 0) {
    mbarrier_init(&t.bar->first, 1);
    mbarrier_init(&t.bar->second, 1);
    mbarrier_init(&t.bar->values, 1);
    fence_barrier_init();
    tma_prefetch_descriptor(&maps.q);
    tma_prefetch_descriptor(&maps.k);
    tma_prefetch_descriptor(&maps.v);
    tma_prefetch_descriptor(&maps.q_tail);
    tma_prefetch_descriptor(&maps.k_tail);
    tma_prefetch_descriptor(&maps.v_tail);
  }
  pdl_launch();
  __syncthreads();
  pdl_wait();
  const int warp = warp_id();
  if (warp == 0 && elect_one()) {
    load_segment<G>(maps, p, t, head, segment * p.rows_q + first_row, segment * p.rows_k);
  }

  const int group = warp / 4, column = 2 * (threadIdx.x & 3);
  const int row = first_row + warp * 16 + lane_id() / 4;
  const int keys = attention_keys(p);
  int limit[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) limit[h] = attention_limit(p, keys, row + 8 * h);
  const int open = attention_limit(p, keys, first_row);  // columns below it need no mask
  const float c = p.scale * kLog2e;
  const uint32_t q = smem_u32(t.q) + group * 64 * kWide, q_tail = smem_u32(t.q_tail) + group * 64 * kNarrow;
  const uint32_t k = smem_u32(t.k), k_tail = smem_u32(t.k_tail), v = smem_u32(t.v),
                 v_tail = smem_u32(t.v_tail);

  float s0[kHalf / 2], s1[kHalf / 2], o[32] = {}, o_tail[8] = {}, factor[2];
  uint32_t weights[kHalf / 16][4];
  SoftmaxRows rows;
  mbarrier_wait(&t.bar->first, 0);
  wgmma_fence();
  scores(s0, q, q_tail, k, k_tail);
  mbarrier_wait(&t.bar->second, 0);
  wgmma_fence();
  scores(s1, q, q_tail, k + kHalf * kWide, k_tail + kHalf * kNarrow);
  wgmma_wait<1>();
  wgmma_pin(s0);
  if (open < kHalf) mask_scores(s0, column, limit);
  rows.update(s0, c, factor);
  pack_weights(s0, weights);
  after(rows.sum[0] + rows.sum[1]);  // in the shadow of the second half of the scores
  wgmma_wait<0>();
  wgmma_pin(s1);
  mbarrier_wait(&t.bar->values, 0);
  if (keys < kKeys) clear_values<G>(t, keys);
  wgmma_fence();
  accumulate(o, o_tail, weights, v, v_tail);
  if (open < kKeys) mask_scores(s1, kHalf + column, limit);
  const bool changed = rows.update(s1, c, factor);
  wgmma_pin(s1);
  after(rows.sum[0] + rows.sum[1]);
  wgmma_wait<0>();
  wgmma_pin(o);
  wgmma_pin(o_tail);
  if (changed) {
#pragma unroll
    for (int i = 0; i < 32; ++i) o[i] *= factor[i >> 1 & 1];
#pragma unroll
    for (int i = 0; i < 8; ++i) o_tail[i] *= factor[i >> 1 & 1];
  }
  pack_weights(s1, weights);
  wgmma_fence();
  accumulate(o, o_tail, weights, v + kHalf * kWide, v_tail + kHalf * kNarrow);
  const float sum[2] = {quad_sum(rows.sum[0]), quad_sum(rows.sum[1])};
  wgmma_wait<0>();
  wgmma_pin(o);
  wgmma_pin(o_tail);

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const bool valid = row + 8 * h < p.rows_q;
    const float inverse = sum[h] > 0.f ? 1.f / sum[h] : 0.f;
    __nv_bfloat16* out = static_cast<__nv_bfloat16*>(p.out) +
                         static_cast<int64_t>(segment * p.rows_q + row + 8 * h) * p.ld_out + head * D;
    const auto pack = [&](const float* x) { return pack2<__nv_bfloat16>(x[0] * inverse, x[1] * inverse); };
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      store_columns16(out + 16 * u, valid, pack(o + 8 * u + 2 * h), pack(o + 8 * u + 4 + 2 * h));
    }
#pragma unroll
    for (int g = 0; 64 + 8 * g < D; ++g) {
      if (valid) *reinterpret_cast<uint32_t*>(out + 64 + 8 * g + column) = pack(o_tail + 4 * g + 2 * h);
    }
  }
}

}  // namespace

#define FLASHRT_INSTANCE(name, D, G)                                                              \
  extern "C" __global__ void __launch_bounds__(G * 128, 1)                                        \
      name(const __grid_constant__ AttentionMaps maps, const __grid_constant__ AttentionArgs a) { \
    attention_segment<D, G>(maps, a.params);                                                      \
  }
FLASHRT_ATTENTION_SEGMENT(FLASHRT_INSTANCE)
#undef FLASHRT_INSTANCE

}  // namespace flashrt
