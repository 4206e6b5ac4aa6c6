// Attention of one token over its cache, with what comes before it: norms of the heads, rotation, append.
// Blocks share the keys of a key head; the last one to finish merges their results (Dao et al. 2023,
// "flash-decoding").
#include <type_traits>

#include "cuda/kernels/common/attention_step_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"

namespace flashrt {
namespace {

constexpr int kWarps = kAttentionStepWarps;

template <class T>
__device__ __forceinline__ uint4 pack8(const float (&v)[8]) {
  return {pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7])};
}
__device__ __forceinline__ uint4 read_shared(const uint8_t* at) {
  return *reinterpret_cast<const uint4*>(at);
}

// D / 8 lanes are one worker: they hold 8 columns of a head each, and have softmax state of their own.
template <class T, int D, int G>
struct AttentionStep {
  static constexpr int kLanes = D / 8, kWorkers = kWarps * 32 / kLanes, kKeys = attention_step_keys(D);
  static constexpr int kPerWorker = kKeys / kWorkers, kTile = kKeys * D * 2;

  const AttentionStepParams& p;
  uint8_t* smem;
  Mbarrier* bars;  // full, empty
  int warp, lane, kv_head, split;
  int position, begin, tile_first, tile_last, active;

  __device__ void locate() {
    position = *p.position;
    begin = p.window > 0 && position + 1 > p.window ? position + 1 - p.window : 0;
    const int tiles = (position - begin + kKeys - 1) / kKeys;
    const int each = max(1, (tiles + p.splits - 1) / p.splits);
    active = max(1, (tiles + each - 1) / each);
    tile_first = min(split * each, tiles), tile_last = min(tile_first + each, tiles);
  }

  __device__ void produce() const {
    if (lane < p.stages) mbarrier_init(bars + lane, 1), mbarrier_init(bars + p.stages + lane, kWarps);
    fence_barrier_init();
    __syncwarp();
    named_barrier_arrive(1, kAttentionStepThreads);
    if (!elect_one()) return;
    pdl_launch();
    int slot = 0;
    uint32_t phase = 1;
    for (int tile = tile_first; tile < tile_last; ++tile) {
      mbarrier_wait(bars + p.stages + slot, phase);
      mbarrier_arrive_expect_tx(bars + slot, 2 * kTile);
      uint8_t* to = smem + slot * 2 * kTile;
      tma_load_2d(to, &p.k, bars + slot, kv_head * D, begin + tile * kKeys);
      tma_load_2d(to + kTile, &p.v, bars + slot, kv_head * D, begin + tile * kKeys);
      if (++slot == p.stages) slot = 0, phase ^= 1;
    }
  }

  // Normalises and rotates the 8 columns per lane of one head.
  __device__ void prepare(float (&x)[8], const float* norm) const {
    const int column = lane % kLanes * 8;
    if (norm != nullptr) {
      float sum = 0.f;
#pragma unroll
      for (int j = 0; j < 8; ++j) sum = fmaf(x[j], x[j], sum);
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      const float scale = rsqrtf(sum * (1.f / D) + p.eps);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[j] *= scale * (1.f + norm[column + j]);
    }
    const bool upper = column >= D / 2;
    const float2* row = reinterpret_cast<const float2*>(p.table + int64_t(position) * D) + column % (D / 2);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float other = __shfl_xor_sync(0xffffffffu, x[j], kLanes / 2);
      const float2 turn = row[j];
      x[j] = upper ? fmaf(x[j], turn.x, other * turn.y) : fmaf(x[j], turn.x, -other * turn.y);
    }
  }

  __device__ const uint4* qkv_at(int head) const {
    return reinterpret_cast<const uint4*>(static_cast<const T*>(p.qkv) + head * D) + lane % kLanes;
  }

  // One key: its scores with all heads, and its value into their sums. Every lane of a worker has each score.
  __device__ static void attend(const uint4& key, const uint4& value, bool seen, const float (&q)[G][8],
                                float (&top)[G], float (&sum)[G], float (&out)[G][8]) {
    float k[8], v[8], score[G];
    unpack8<T>(key, k);
#pragma unroll
    for (int g = 0; g < G; ++g) {
      score[g] = 0.f;
#pragma unroll
      for (int j = 0; j < 8; ++j) score[g] = fmaf(q[g][j], k[j], score[g]);
    }
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
#pragma unroll
      for (int g = 0; g < G; ++g) score[g] += __shfl_xor_sync(0xffffffffu, score[g], offset);
    }
    unpack8<T>(value, v);
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = seen ? v[j] : 0.f;  // what lies behind the keys may be anything
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const float s = seen ? score[g] : -INFINITY;
      const float best = fmaxf(top[g], s), base = best == -INFINITY ? 0.f : best;
      const float kept = exp2f(top[g] - base), weight = seen ? exp2f(s - base) : 0.f;
      top[g] = best;
      sum[g] = fmaf(sum[g], kept, weight);
#pragma unroll
      for (int j = 0; j < 8; ++j) out[g][j] = fmaf(out[g][j], kept, weight * v[j]);
    }
  }

  __device__ void run() {
    locate();
    if (split >= active) {  // still part of the chain of launches
      if (threadIdx.x == 0) pdl_launch();
      pdl_wait();
      return;
    }
    if (warp == kWarps) return produce();
    const float* ahead = warp == 0 ? p.table + int64_t(position) * D : warp == 1 ? p.q_norm : p.k_norm;
    if (warp < 3 && ahead != nullptr && lane * 8 < D)
      asm volatile("prefetch.global.L1 [%0];" ::"l"(ahead + lane * 8));
    named_barrier_sync(1, kAttentionStepThreads);
    pdl_wait();
    const bool own = split == 0 && warp == 0;  // the token's own key and value
    uint4 own_key{}, own_value{};
    if (own) own_key = *qkv_at(p.heads + kv_head), own_value = *qkv_at(p.heads + p.kv_heads + kv_head);
    float q[G][8], top[G], sum[G], out[G][8];
    const int head0 = kv_head * p.group;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      unpack8<T>(*qkv_at(head0 + min(g, p.group - 1)), q[g]);
      prepare(q[g], p.q_norm);
      top[g] = -INFINITY, sum[g] = 0.f;
#pragma unroll
      for (int j = 0; j < 8; ++j) q[g][j] *= p.scale_log2, out[g][j] = 0.f;
    }
    if (own) {
      float x[8];
      unpack8<T>(own_key, x);
      prepare(x, p.k_norm);
      const uint4 key = pack8<T>(x), value = own_value;
      if (lane < kLanes && position < p.capacity) {
        const int64_t at = (int64_t(position) * p.kv_heads + kv_head) * D + lane * 8;
        *reinterpret_cast<uint4*>(static_cast<T*>(p.k_cache) + at) = key;
        *reinterpret_cast<uint4*>(static_cast<T*>(p.v_cache) + at) = value;
      }
      attend(key, value, lane < kLanes, q, top, sum, out);
    }
    const int worker = int(threadIdx.x) / kLanes, column = lane % kLanes * 16;
    int slot = 0;
    uint32_t phase = 0;
#pragma unroll 1
    for (int tile = tile_first; tile < tile_last; ++tile) {
      mbarrier_wait(bars + slot, phase);
      const uint8_t* keys = smem + slot * 2 * kTile + column;
#pragma unroll
      for (int i = 0; i < kPerWorker; ++i) {
        const int j = worker + i * kWorkers;
        attend(read_shared(keys + j * D * 2), read_shared(keys + kTile + j * D * 2),
               begin + tile * kKeys + j < position, q, top, sum, out);
      }
      __syncwarp();
      if (elect_one()) mbarrier_arrive(bars + p.stages + slot);
      if (++slot == p.stages) slot = 0, phase ^= 1;
    }
    merge_workers(top, sum, out);
    combine();
  }

  // The workers of a warp by shuffles, then each warp's result to shared memory: (top, sum, columns) per
  // head.
  __device__ void merge_workers(float (&top)[G], float (&sum)[G], float (&out)[G][8]) const {
#pragma unroll
    for (int offset = kLanes; offset < 32; offset *= 2) {
#pragma unroll
      for (int g = 0; g < G; ++g) {
        const float other = __shfl_xor_sync(0xffffffffu, top[g], offset);
        const float best = fmaxf(top[g], other), base = best == -INFINITY ? 0.f : best;
        const float mine = exp2f(top[g] - base), theirs = exp2f(other - base);
        top[g] = best;
        sum[g] = sum[g] * mine + __shfl_xor_sync(0xffffffffu, sum[g], offset) * theirs;
#pragma unroll
        for (int j = 0; j < 8; ++j)
          out[g][j] = out[g][j] * mine + __shfl_xor_sync(0xffffffffu, out[g][j], offset) * theirs;
      }
    }
    named_barrier_sync(2, kWarps * 32);  // the ring is read to its end
    float* to = reinterpret_cast<float*>(smem) + warp * G * (D + 2);
#pragma unroll
    for (int g = 0; g < G; ++g, to += D + 2) {
      if (lane == 0) to[0] = top[g], to[1] = sum[g];
      if (lane < kLanes) {
#pragma unroll
        for (int j = 0; j < 8; j += 2)
          *reinterpret_cast<float2*>(to + 2 + lane * 8 + j) = make_float2(out[g][j], out[g][j + 1]);
      }
    }
    named_barrier_sync(2, kWarps * 32);
  }

  // Column `c` of head `g` over `parts` results `stride` apart: Σ 2^(top_i − top)·out_i, and the same of the
  // sums.
  template <bool kGlobal>
  __device__ static float2 total(const float* from, int parts, int64_t stride, int c, float& best) {
    const auto read = [](const float* at) { return kGlobal ? __ldcg(at) : *at; };
    best = -INFINITY;
    for (int i = 0; i < parts; ++i) best = fmaxf(best, read(from + i * stride));
    const float base = best == -INFINITY ? 0.f : best;
    float value = 0.f, sum = 0.f;
    for (int i = 0; i < parts; ++i) {
      const float weight = exp2f(read(from + i * stride) - base);
      sum = fmaf(read(from + i * stride + 1), weight, sum);
      value = fmaf(read(from + i * stride + 2 + c), weight, value);
    }
    return make_float2(value, sum);
  }

  __device__ void write(int g, int c, float2 v) const {
    const float y = v.y == 0.f ? 0.f : v.x / v.y;
    T* to = static_cast<T*>(p.out) + (kv_head * p.group + g) * D + c;
    if constexpr (std::is_same_v<T, __half>)
      *to = __float2half_rn(y);
    else
      *to = __float2bfloat16_rn(y);
  }

  __device__ void combine() const {
    const float* warps = reinterpret_cast<const float*>(smem);
    const int64_t part = int64_t(p.group) * (D + 2);
    float* mine = p.partials + (int64_t(kv_head) * p.splits + split) * part;
    for (int i = threadIdx.x; i < p.group * D; i += kWarps * 32) {
      const int g = i / D, c = i % D;
      float best;
      const float2 v = total<false>(warps + g * (D + 2), kWarps, G * (D + 2), c, best);
      if (active == 1) {
        write(g, c, v);
        continue;
      }
      mine[g * (D + 2) + 2 + c] = v.x;
      if (c == 0) mine[g * (D + 2)] = best, mine[g * (D + 2) + 1] = v.y;
    }
    if (active == 1) return;
    __shared__ int last;
    __threadfence();
    named_barrier_sync(2, kWarps * 32);
    if (threadIdx.x == 0) {
      last = atomicAdd(p.arrived + kv_head, 1) == active - 1;
      if (last) p.arrived[kv_head] = 0;
      __threadfence();
    }
    named_barrier_sync(2, kWarps * 32);
    if (!last) return;
    const float* all = p.partials + int64_t(kv_head) * p.splits * part;
    for (int i = threadIdx.x; i < p.group * D; i += kWarps * 32) {
      float best;
      write(i / D, i % D, total<true>(all + i / D * (D + 2), active, part, i % D, best));
    }
  }
};

}  // namespace

// grid: (splits, kv_heads)
#define FLASHRT_ATTENTION_STEP(name, T, width, heads)                                             \
  extern "C" __global__ void __launch_bounds__(kAttentionStepThreads, 1)                          \
      attention_step_##name##_##width##_g##heads(const __grid_constant__ AttentionStepParams p) { \
    extern __shared__ __align__(128) uint8_t step_smem[];                                         \
    auto* bars = reinterpret_cast<Mbarrier*>(step_smem + p.barriers_at);                          \
    AttentionStep<T, width, heads>{                                                               \
        p, step_smem, bars, int(warp_id()), int(lane_id()), int(blockIdx.y), int(blockIdx.x)}     \
        .run();                                                                                   \
  }
#define FLASHRT_ATTENTION_STEP_GROUPS(name, T, width) \
  FLASHRT_ATTENTION_STEP(name, T, width, 1)           \
  FLASHRT_ATTENTION_STEP(name, T, width, 2)           \
  FLASHRT_ATTENTION_STEP(name, T, width, 4)           \
  FLASHRT_ATTENTION_STEP(name, T, width, 8)
#define FLASHRT_ATTENTION_STEP_ALL(name, T)   \
  FLASHRT_ATTENTION_STEP_GROUPS(name, T, 64)  \
  FLASHRT_ATTENTION_STEP_GROUPS(name, T, 128) \
  FLASHRT_ATTENTION_STEP_GROUPS(name, T, 256)
FLASHRT_ATTENTION_STEP_ALL(bf16, __nv_bfloat16)
FLASHRT_ATTENTION_STEP_ALL(f16, __half)

}  // namespace flashrt
