// A whole stack of decoder layers in one launch, for 8 … 64 rows: one block per multiprocessor, weights
// streaming through a shared-memory ring ahead of every dependency, activations handed from block to block
// through L2.
//
// A layer is five products and two merges:
//   - qkv: 40 blocks, a 64-row tile of weights each, all of k; rotation;
//   - attention: 8 heads times chunks of 64 keys; keys of the prefix come through the weight ring;
//   - merge: 16 columns of a head per block, over all chunks;
//   - out: 64 columns of the residual stream, an eighth of k per block; then each adds up an eighth of
//     the rows of its tile;
//   - gate-up: 32 hidden columns per block, all of k; activation times up;
//   - down: like out.
//
// Readers wait for the data itself (handoff.cuh). Buffers are cleared when every reader is known to be done:
//   - what one thread reads (`partial`, `weighted`), that thread clears at once;
//   - the rest alternates by layer and is cleared by its writers' block while gate-up multiplies. There every
//     block has read all of the second norm's output, which depends on everything before it in this layer.
//
// Three warps with nothing else to do clear and then fence, for the whole block. What the residual stream
// publishes after the layer waits for that fence, and whoever writes a cleared word again depends on it.
//
// All sums have a fixed order: results do not vary from run to run.
#include "cuda/kernels/common/activation.cuh"
#include "cuda/kernels/common/decoder_stack_params.h"
#include "cuda/kernels/common/handoff.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/uniform.cuh"
#include "cuda/kernels/common/wgmma.cuh"

namespace flashrt {
namespace {

constexpr int kGroup = 128, kWorkers = 256;  // threads of a warpgroup; of both that compute
constexpr int kJanitors = 96, kThreads = kWorkers + 32 + kJanitors;
enum NamedBarrier { kStaged = 1, kFirstGroup, kSecondGroup, kStatistics, kFree, kRead, kCleaning, kCleaned };
constexpr int kMaxStages = 16, kMaxBatch = 14;
constexpr int kQkvTiles = (kStackHeads + 2) * 4, kTiles = kStackWidth / 64;
constexpr int kQueryBytes = kStackHeads * kStackHeadDim * 2, kKeyBytes = kStackHeadDim * 2;

struct Shared {
  Mbarrier full[kMaxStages], empty[kMaxStages];
  float rstd[64];
  StackVectors vectors[kStackLayers];
};
struct Softmax {                 // lies in the staged activations, which attention fills by a third
  float top[4][64], sum[4][64];  // by warp and token
};

// One block's part of the stack. `thread` counts within the two computing warpgroups.
template <int N>
struct Stack {
  const DecoderStackParams& p;
  uint8_t *ring, *xs;
  Shared* shared;
  int thread, warp, lane, block;
  int position, chunks;
  int slot = 0;        // of the ring: the next one to read
  uint32_t phase = 0;  // its parity

  // -- roles --
  __device__ int tile() const { return block >> 3; }  // of the residual stream, in out and down
  __device__ int split() const { return block & 7; }
  __device__ int head() const { return block & 7; }  // of the attention unit, and of the merge
  __device__ int chunk() const { return block >> 3; }
  __device__ bool has_qkv() const { return block % 3 == 0 && block < 3 * kQkvTiles; }
  __device__ int qkv_tile() const { return block / 3; }
  __device__ bool has_chunk() const { return chunk() < chunks; }

  __device__ uint8_t* at(size_t offset) const { return p.exchange + offset; }

  __device__ void mark(int layer, int what) const {
#ifdef FLASHRT_STACK_TRACE
    if (p.trace != nullptr && lane == 0 && (thread == 0 || thread == kGroup))
      p.trace[(static_cast<size_t>(block) * p.layer_count + layer) * 32 + what + (thread != 0 ? 16 : 0)] =
          clock64();
#endif
  }

  __device__ int group() const { return warp >> 2; }  // of the two that compute
  __device__ int part() const { return warp & 3; }

  __device__ void advance(int stages) {
    slot += stages;
    while (slot >= p.stages) slot -= p.stages, phase ^= 1;
  }

  // ---- the producer: every load of a layer, in the order of use ----
  __device__ __forceinline__ void produce() {
    int at_slot = 0;
    uint32_t free_phase = 1;
    long long due = clock64();
    const int pace = has_qkv() ? p.pace * 2 / 3 : p.pace;
    const auto next = [&](auto&& load) {  // load(destination, barrier) issues two boxes of 8 KB
      mbarrier_wait(&shared->empty[at_slot], free_phase);
      while (clock64() < due) {
      }
      due = max(due, clock64() - pace) + pace;
      mbarrier_arrive_expect_tx(&shared->full[at_slot], kStackStageBytes);
      load(ring + at_slot * kStackStageBytes, &shared->full[at_slot]);
      if (++at_slot == p.stages) at_slot = 0, free_phase ^= 1;
    };
    const int qkv_group = (qkv_tile() >> 2) * (kStackHeadDim / 8) + (qkv_tile() & 3) * 4;
#pragma unroll 1
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const StackLayer* l = p.layers + layer;
      if (has_qkv()) {
#pragma unroll 1
        for (int k = 0; k < kStackWidth; k += 128)
          next([&](uint8_t* to, Mbarrier* bar) {
            tma_load_4d(to, &l->qkv, bar, k, 0, 0, qkv_group, L2Hint::evict_first);
            tma_load_4d(to + 8192, &l->qkv, bar, k + 64, 0, 0, qkv_group, L2Hint::evict_first);
          });
      }
      if (layer == 0) {
        pdl_wait();
        position = __ldcg(p.position);
        chunks = (position + p.rows + 63) >> 6;
      }
      if (has_chunk()) {
#pragma unroll 1
        for (int i = 0; i < 4; ++i)
          next([&](uint8_t* to, Mbarrier* bar) {
            const CUtensorMap* map = i < 2 ? &l->keys : &l->values;
            tma_load_2d(to, map, bar, (i & 1) * 128, chunk() * 64, L2Hint::evict_last);
            tma_load_2d(to + 8192, map, bar, (i & 1) * 128 + 64, chunk() * 64, L2Hint::evict_last);
          });
      }
      const auto slice = [&](const CUtensorMap* map, int k0, int count) {
#pragma unroll 1
        for (int k = k0; k < k0 + count; k += 128)
          next([&](uint8_t* to, Mbarrier* bar) {
            tma_load_2d(to, map, bar, k, tile() * 64, L2Hint::evict_first);
            tma_load_2d(to + 8192, map, bar, k + 64, tile() * 64, L2Hint::evict_first);
          });
      };
      slice(&l->out, split() * kStackHeadDim, kStackHeadDim);
#pragma unroll 1
      for (int k = 0; k < kStackWidth; k += 128)
        next([&](uint8_t* to, Mbarrier* bar) {
          tma_load_4d(to, &l->gate_up, bar, k, 0, 0, block * 4, L2Hint::evict_first);
          tma_load_4d(to + 8192, &l->gate_up, bar, k + 64, 0, 0, block * 4, L2Hint::evict_first);
        });
      slice(&l->down, split() * (kStackMlp / kStackSplits), kStackMlp / kStackSplits);
    }
  }

  // ---- activations into shared memory, as a wgmma B operand: [64 columns][N rows][64], 128-byte swizzle
  // ---- 2^Shift chunks of 16 bytes per row; a thread takes every (256 >> Shift)-th row.
  template <int Shift, int RowBytes>
  __device__ __forceinline__ void stage(const uint8_t* from) {
    constexpr int kStep = kWorkers >> Shift, kAll = (N + kStep - 1) / kStep,
                  kBatch = kAll <= kMaxBatch ? kAll : kMaxBatch;
    const int column = thread & ((1 << Shift) - 1), own = thread >> Shift;
    from += own * RowBytes + column * 16;
    uint8_t* to = xs + (column >> 3) * (N * 128) + own * 128;
#pragma unroll 1
    for (int left = p.rows - own; left > 0; left -= kBatch * kStep) {
      const int count = (left + kStep - 1) / kStep;
      uint4 v[kBatch];
      fetch(v, count, N > 16 || Shift > 5, [&](int i) { return from + i * (kStep * RowBytes); });
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
        if (i < count)
          *reinterpret_cast<uint4*>(to + i * (kStep * 128) +
                                    (((column ^ (p.rows - left + i * kStep)) & 7) << 4)) = v[i];
      from += kBatch * kStep * RowBytes, to += kBatch * kStep * 128;
    }
  }
  __device__ __forceinline__ void staged() const {
    fence_proxy_async();
    named_barrier_sync(kStaged, kWorkers);
  }

  // ---- products ----
  __device__ __forceinline__ void release(int s) {
    if (elect_one()) mbarrier_arrive(&shared->empty[s]);
  }

  // Adds to d[64 weight rows, N] over `stages` stages. For few tokens, where issuing the products takes
  // longer than they do, the first warpgroup takes the even stages and the second one the odd ones; for many
  // the first one takes all.
  static constexpr int kShares = N <= 16 ? 2 : 1;
  __device__ __forceinline__ void product(float (&d)[N / 2], int stages) {
    const uint64_t a0 = descriptor_k_major(smem_u32(ring)), b0 = descriptor_k_major(smem_u32(xs));
    int at = slot, before = -1;
    uint32_t parity = phase;
    const auto skip = [&] {
      if (++at == p.stages) at = 0, parity ^= 1;
    };
    if (kShares == 1 && group() == 1) {
      advance(stages);
      return;
    }
    if (group() == 1) skip();
#pragma unroll 1
    for (int turn = 0; turn < stages; turn += kShares) {
      const int now = uniform(at), s = turn + group();
      const uint64_t a = further(a0, now * (kStackStageBytes >> 4)),
                     b = further(b0, uniform(s) * (2 * N * 128 >> 4));
      warp_wait(&shared->full[at], parity);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < 8; ++i)
        wgmma_ss<N>(d, further(a, (i >> 2) * (8192 >> 4) + (i & 3) * kDescriptorNextK),
                    further(b, (i >> 2) * (N * 128 >> 4) + (i & 3) * kDescriptorNextK), 1);
      wgmma_commit();
      if (before >= 0) {
        wgmma_wait<1>();
        release(before);
      }
      before = now;
      skip();
      if (kShares == 2) skip();
    }
    wgmma_wait<0>();
    wgmma_pin(d);
    release(before);
    advance(stages);
  }

  // The warpgroups exchange halves of their sums over xs, which both have read: each goes on with kOwn blocks
  // of 8 tokens, from token first_own().
  static constexpr int kBlocks = N / 8, kOwn = (kBlocks + 1) / 2;
  __device__ int first_own() const { return group() * kOwn * 8; }
  __device__ __forceinline__ void exchange(const float (&d)[N / 2], float (&own)[4 * kOwn]) {
    float4* box = reinterpret_cast<float4*>(xs) + (thread & (kGroup - 1));
    const auto give = [&](int j) {
      box[j * kGroup] = make_float4(d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]);
    };
    const auto take = [&](int j, int i) {
      const float4 v = kShares == 2 || group() == 1 ? box[j * kGroup] : make_float4(0.f, 0.f, 0.f, 0.f);
      own[4 * i] = d[4 * j] + v.x, own[4 * i + 1] = d[4 * j + 1] + v.y;
      own[4 * i + 2] = d[4 * j + 2] + v.z, own[4 * i + 3] = d[4 * j + 3] + v.w;
    };
    named_barrier_sync(kStaged, kWorkers);
    if (group() == 0) {
#pragma unroll
      for (int j = kOwn; j < kBlocks; ++j) give(j);
    } else if (kShares == 2) {
#pragma unroll
      for (int j = 0; j < kOwn; ++j) give(j);
    }
    named_barrier_sync(kStaged, kWorkers);
    if (group() == 0) {
#pragma unroll
      for (int j = 0; j < kOwn; ++j) take(j, j);
    } else {
#pragma unroll
      for (int j = kOwn; j < kBlocks; ++j) take(j, j - kOwn);
    }
  }

  // ---- row statistics (the cleaners): rstd of every row ----
  __device__ __forceinline__ void statistics(size_t squares) {
    const int row = thread - kWorkers - 32;
    if (row - lane >= p.rows) return;  // a warp that waits for nothing must not run ahead
    uint4 v[4];
    const uint8_t* from = at(squares) + row * 64;
    fetch(v, row < p.rows ? 4 : 0, true, [&](int i) { return from + i * 16; });
    float sum = 0.f;
    if (row < p.rows) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sum += (__uint_as_float(v[i].x) + __uint_as_float(v[i].y)) +
               (__uint_as_float(v[i].z) + __uint_as_float(v[i].w));
      shared->rstd[row] = rsqrt_approx(fmaf(sum, 1.f / kStackWidth, p.eps));
    }
    __syncwarp();
    named_barrier_arrive(kStatistics, statistics_threads());
  }
  __device__ int statistics_threads() const { return kWorkers + ((p.rows + 31) & ~31); }

  // A transposed 8×8 fragment posted as a row of 8 columns per token.
  __device__ __forceinline__ void post_fragment(uint8_t* to, int row_bytes, int first_token, float a,
                                                float b) {
    const uint32_t w = never_zero_half2(transpose8(pack2<__nv_bfloat16>(a, b)));
    const int token = first_token + lane / 4;
    if (token < p.rows) post4(to + token * row_bytes + lane % 4 * 4, w);
  }

  // ---- what becomes of the products: rows lane/4 and lane/4 + 8 of a warp's 16 are a pair ----
  __device__ int pair() const { return part() * 8 + lane / 4; }

  __device__ __forceinline__ void load_angles(float2 (&angle)[2 * kOwn]) const {
    const float2* from =
        p.rope + static_cast<size_t>(position) * (kStackHeadDim / 2) + (qkv_tile() & 3) * 32 + pair();
#pragma unroll
    for (int i = 0; i < 2 * kOwn; ++i) {
      const int token = first_own() + i / 2 * 8 + lane % 4 * 2 + i % 2;
      if (qkv_tile() >> 2 <= kStackHeads && token < p.rows)
        angle[i] = __ldg(from + token * (kStackHeadDim / 2));
    }
  }

  __device__ __forceinline__ void finish_qkv(const float (&d)[4 * kOwn], const float2 (&angle)[2 * kOwn],
                                             float bias_lo, float bias_hi, int parity) {
    const int h = qkv_tile() >> 2;
    uint8_t* to = h < kStackHeads ? at(p.at.query[parity]) + h * (kStackHeadDim * 2)
                                  : at(h == kStackHeads ? p.at.key[parity] : p.at.value[parity]);
    to += ((qkv_tile() & 3) * 32 + part() * 8) * 2;
    const int row_bytes = h < kStackHeads ? kQueryBytes : kKeyBytes;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int block_of = first_own() + j * 8;
      const float2 r = *reinterpret_cast<const float2*>(&shared->rstd[block_of + lane % 4 * 2]);
      const float lo0 = fmaf(d[4 * j], r.x, bias_lo), lo1 = fmaf(d[4 * j + 1], r.y, bias_lo);
      const float hi0 = fmaf(d[4 * j + 2], r.x, bias_hi), hi1 = fmaf(d[4 * j + 3], r.y, bias_hi);
      const float2 a0 = angle[2 * j], a1 = angle[2 * j + 1];
      post_fragment(to, row_bytes, block_of, lo0 * a0.x - hi0 * a0.y, lo1 * a1.x - hi1 * a1.y);
      post_fragment(to + kStackHeadDim, row_bytes, block_of, hi0 * a0.x + lo0 * a0.y,
                    hi1 * a1.x + lo1 * a1.y);
    }
  }

  __device__ __forceinline__ void finish_gate_up(const float (&d)[4 * kOwn], float bias_gate, float bias_up,
                                                 int parity) {
    uint8_t* to = at(p.at.hidden[parity]) + (block * 32 + part() * 8) * 2;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int block_of = first_own() + j * 8;
      const float2 r = *reinterpret_cast<const float2*>(&shared->rstd[block_of + lane % 4 * 2]);
      const float y0 =
          gate_activation(fmaf(d[4 * j], r.x, bias_gate), !p.silu) * fmaf(d[4 * j + 2], r.x, bias_up);
      const float y1 =
          gate_activation(fmaf(d[4 * j + 1], r.y, bias_gate), !p.silu) * fmaf(d[4 * j + 3], r.y, bias_up);
      post_fragment(to, kStackMlp * 2, block_of, y0, y1);
    }
  }

  // A slice of k, to be added up.
  __device__ __forceinline__ uint8_t* partial(size_t which) const {
    return at(which) + tile() * kStackSplits * p.rows * 256;
  }
  __device__ __forceinline__ void finish_slice(const float (&d)[4 * kOwn], size_t which) {
    uint8_t* to = partial(which) + split() * p.rows * 256 + (part() * 16 + lane / 4) * 4;
#pragma unroll
    for (int i = 0; i < 2 * kOwn; ++i) {
      const int token = first_own() + i / 2 * 8 + lane % 4 * 2 + i % 2;
      if (token < p.rows) {
        post4(to + token * 256, never_zero(d[i / 2 * 4 + i % 2]));
        post4(to + token * 256 + 32, never_zero(d[i / 2 * 4 + i % 2 + 2]));
      }
    }
  }

  // ---- attention over one chunk of 64 keys ----
  // Keys and values of this step replace what the copy engine brought beyond the prefix.
  __device__ __forceinline__ void patch_chunk(int parity) {
    const int first = chunk() * 64, begin = max(position - first, 0);
    if (begin >= 64) return;
    const auto slot_of = [&](int i) { return slot + i >= p.stages ? slot + i - p.stages : slot + i; };
#pragma unroll
    for (int i = 0; i < 4; ++i)
      warp_wait(&shared->full[slot_of(i)], slot + i >= p.stages ? phase ^ 1 : phase);
    const int column = thread & 31, box = column >> 3;
    uint8_t* keys = ring + slot_of(box >> 1) * kStackStageBytes + (box & 1) * 8192;
    uint8_t* values = ring + slot_of(2 + (box >> 1)) * kStackStageBytes + (box & 1) * 8192;
    const auto put = [&](int row, uint4 k, uint4 v) {
      const int to = row * 128 + (((column ^ row) & 7) << 4);
      *reinterpret_cast<uint4*>(keys + to) = k;
      *reinterpret_cast<uint4*>(values + to) = v;
    };
    // Two rows of this thread at a time; the rows of this step are [position, position + rows).
#pragma unroll 1
    for (int row = begin + (thread >> 5); row < 64; row += 16) {
      const int token = first + row - position;
      uint4 v[4] = {};
      const uint8_t *k = at(p.at.key[parity]) + token * kKeyBytes + column * 16,
                    *values_of = at(p.at.value[parity]) + token * kKeyBytes + column * 16;
      const int count = row + 8 < 64 && token + 8 < p.rows ? 4 : token < p.rows ? 2 : 0;
      fetch(v, count, false, [&](int i) { return (i & 1 ? values_of : k) + (i >> 1) * (8 * kKeyBytes); });
      put(row, v[0], v[1]);
      if (row + 8 < 64) put(row + 8, v[2], v[3]);
    }
  }

  // Both warpgroups, each for half of the tokens (of 56 the second one computes 8 that are nobody's).
  __device__ __forceinline__ void attend(int parity) {
    constexpr int kHalf = N == 16 ? 8 : 32;
    const int group = this->group(), part = this->part(), first = group * kHalf;
    const uint64_t b0 = further(descriptor_k_major(smem_u32(xs)), uniform(group) * (kHalf * 128 >> 4));
    const int begin = slot;
    Softmax* softmax = reinterpret_cast<Softmax*>(xs + 8 * N * 128);
    int at_slot[2];
    const auto wait_two = [&] {  // of both before the first product: no branch may lie between products
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        warp_wait(&shared->full[slot], phase);
        at_slot[i] = uniform(slot);
        advance(1);
      }
    };
    wait_two();
    float s[kHalf / 2] = {};
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 16; ++i)
      wgmma_ss<kHalf>(s,
                      further(descriptor_k_major(smem_u32(ring)), at_slot[i >> 3] * (kStackStageBytes >> 4) +
                                                                      (i >> 2 & 1) * (8192 >> 4) +
                                                                      (i & 3) * kDescriptorNextK),
                      further(b0, (i >> 2) * (N * 128 >> 4) + (i & 3) * kDescriptorNextK), 1);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(s);
    // Softmax over this chunk's keys: rows of the product.
    const int key = chunk() * 64 + part * 16 + lane / 4, limit = position + p.rows;
#pragma unroll
    for (int j = 0; j < kHalf / 8; ++j) {
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const int token = first + j * 8 + lane % 4 * 2 + t;
        const int end = token < p.lead_rows ? position + p.lead_rows : limit;
        float &a = s[4 * j + t], &b = s[4 * j + 2 + t];
        a = key < end ? a * p.score_scale : -1e30f;
        b = key + 8 < end ? b * p.score_scale : -1e30f;
        float top = fmaxf(a, b);
#pragma unroll
        for (int o = 4; o < 32; o *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
        if (lane < 4) softmax->top[part][token] = top;
      }
    }
    named_barrier_sync(kStaged, kWorkers);
    if (group == 0) release(begin), release(begin + 1 == p.stages ? 0 : begin + 1);
    uint8_t* weights = xs + 4 * N * 128 + first * 128;
    const uint32_t weights_at =
        smem_u32(weights) + (lane & 7) * 128 + (((part * 2 + (lane >> 3 & 1)) ^ (lane & 7)) << 4);
    float top[kHalf / 4];
#pragma unroll
    for (int j = 0; j < kHalf / 8; ++j) {
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const int token = first + j * 8 + lane % 4 * 2 + t;
        float m = softmax->top[0][token];
#pragma unroll
        for (int w = 1; w < 4; ++w) m = fmaxf(m, softmax->top[w][token]);
        top[2 * j + t] = m;
        float &a = s[4 * j + t], &b = s[4 * j + 2 + t];
        a = a > -1e30f ? exp2_fast(a - m) : 0.f;
        b = b > -1e30f ? exp2_fast(b - m) : 0.f;
        float sum = a + b;
#pragma unroll
        for (int o = 4; o < 32; o *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
        if (lane < 4) softmax->sum[part][token] = sum;
      }
      stmatrix_x2_trans(weights_at + j * 1024, pack2<__nv_bfloat16>(s[4 * j], s[4 * j + 1]),
                        pack2<__nv_bfloat16>(s[4 * j + 2], s[4 * j + 3]));
    }
    fence_proxy_async();
    named_barrier_sync(kFirstGroup + group, kGroup);

    const uint64_t b =
        further(descriptor_k_major(smem_u32(xs + 4 * N * 128)), uniform(group) * (kHalf * 128 >> 4));
    const size_t unit = static_cast<size_t>(head() * kStackChunks + chunk()) * p.rows;
    if (part == 0 && lane < 4) {
      uint8_t* extent = at(p.at.extent[parity]) + unit * 8;
#pragma unroll
      for (int j = 0; j < kHalf / 4; ++j) {
        const int token = first + j / 2 * 8 + lane * 2 + j % 2;
        const float sum = (softmax->sum[0][token] + softmax->sum[1][token]) +
                          (softmax->sum[2][token] + softmax->sum[3][token]);
        if (token < p.rows) post8(extent + token * 8, never_zero(top[j]), never_zero(sum));
      }
    }
    // [16 slices of 16 columns][rows][16]
    uint8_t* to = at(p.at.weighted) + unit * (kStackHeadDim * 2) + static_cast<size_t>(part) * p.rows * 32;
    wait_two();
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const uint64_t a = further(descriptor_mn_major(smem_u32(ring), 8192),
                                 uniform(i < 2 ? at_slot[0] : at_slot[1]) * (kStackStageBytes >> 4) +
                                     (uniform(i) & 1) * (8192 >> 4));
      float o[kHalf / 2] = {};
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k)
        wgmma_ss<kHalf, false, __nv_bfloat16, true>(o, further(a, k * kDescriptorNextKTransposed),
                                                    further(b, k * kDescriptorNextK), 1);
      wgmma_commit();
      wgmma_wait<0>();
      wgmma_pin(o);
#pragma unroll
      for (int j = 0; j < kHalf / 8; ++j) {
        post_fragment(to, 32, first + j * 8, o[4 * j], o[4 * j + 1]);
        post_fragment(to + 16, 32, first + j * 8, o[4 * j + 2], o[4 * j + 3]);
      }
      to += p.rows * 128;
    }
    if (group == 1) {
      named_barrier_arrive(kRead, kWorkers);
      return;
    }
    named_barrier_sync(kRead, kWorkers);
    const int values = begin + 2 >= p.stages ? begin + 2 - p.stages : begin + 2;
    release(values), release(values + 1 == p.stages ? 0 : values + 1);
  }

  // ---- merge: 16 columns of a head; 4 threads per token, 8 columns and every second chunk each ----
  __device__ __forceinline__ void merge(int parity) {
    constexpr int kCount = kStackChunks / 2;
    const int token = thread >> 2, part = thread >> 1 & 1, odd = thread & 1, column = chunk() * 16 + part * 8;
    const uint32_t step = p.rows * (kStackHeadDim * 2), extent_step = p.rows * 8;
    uint8_t* sums =
        at(p.at.weighted) + head() * kStackChunks * step + chunk() * p.rows * 32 + token * 32 + part * 16;
    const uint8_t* extent = at(p.at.extent[parity]) + head() * kStackChunks * extent_step + token * 8;
    sums += odd * step, extent += odd * extent_step;
    if (warp * 8 >= p.rows) return;
    const int count = token < p.rows ? (chunks - odd + 1) >> 1 : 0;
    uint4 v[kCount];
    uint2 e[kCount];
    Patience patience;
    if (N > 16) {  // see fetch
      if (lane == 0)
        while (least(peek16(sums + (count - 1) * 2 * step)) == 0) patience.spend();
      __syncwarp();
    }
    while (true) {
      uint32_t written = ~0u;
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i < count) v[i] = peek16(sums + i * 2 * step), e[i] = peek8(extent + i * 2 * extent_step);
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i < count) written = min(written, __vimin3_u32(least(v[i]), e[i].x, e[i].y));
      if (__all_sync(0xffffffffu, written != 0)) break;
      patience.spend();
    }
    __syncwarp();
    float top = -3e38f, total = 0.f, out[8] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (i < count) top = fmaxf(top, __uint_as_float(e[i].x));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) {
        clear16(sums + i * 2 * step);
        const float w = exp2_fast(__uint_as_float(e[i].x) - top);
        total = fmaf(w, __uint_as_float(e[i].y), total);
        const uint32_t u[4] = {v[i].x, v[i].y, v[i].z, v[i].w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float2 f = unpack2<__nv_bfloat16>(u[c]);
          out[2 * c] = fmaf(w, f.x, out[2 * c]), out[2 * c + 1] = fmaf(w, f.y, out[2 * c + 1]);
        }
      }
    }
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    const float scale = __fdividef(1.f, total);
    uint32_t y[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float a = out[2 * c] + __shfl_xor_sync(0xffffffffu, out[2 * c], 1);
      const float b = out[2 * c + 1] + __shfl_xor_sync(0xffffffffu, out[2 * c + 1], 1);
      y[c] = never_zero_half2(pack2<__nv_bfloat16>(a * scale, b * scale));
    }
    if (odd == 0 && token < p.rows)
      post16(at(p.at.attended[parity]) + token * kQueryBytes + (head() * kStackHeadDim + column) * 2,
             make_uint4(y[0], y[1], y[2], y[3]));
  }

  // ---- the residual stream (second warpgroup): row split + 8·(t/16), columns 64·tile + 4·(t%16) … + 3 ----
  struct Residual {
    float x[4];
  };
  // Its columns of a layer's vectors.
  struct Vectors {
    float4 gate1, scale2, gate2, next_scale1;
  };
  __device__ __forceinline__ float4 own_of(const float* vector, float otherwise) const {
    return vector != nullptr ? __ldg(reinterpret_cast<const float4*>(vector + own_column()))
                             : make_float4(otherwise, otherwise, otherwise, otherwise);
  }
  __device__ int own_row() const { return split() + 8 * ((thread - kGroup) >> 4); }
  __device__ int own_column() const { return tile() * 64 + (thread & 15) * 4; }

  __device__ __forceinline__ void publish(const Residual& r, int norm, int parity, float4 s) {
    const int row = own_row();
    float squares = (r.x[0] * r.x[0] + r.x[1] * r.x[1]) + (r.x[2] * r.x[2] + r.x[3] * r.x[3]);
#pragma unroll
    for (int o = 1; o < 16; o *= 2) squares += __shfl_xor_sync(0xffffffffu, squares, o);
    if (row >= p.rows) return;
    post8(at(p.at.normed[norm][parity]) + (row * kStackWidth + own_column()) * 2,
          never_zero_half2(pack2<__nv_bfloat16>(fmaf(r.x[0], s.x, r.x[0]), fmaf(r.x[1], s.y, r.x[1]))),
          never_zero_half2(pack2<__nv_bfloat16>(fmaf(r.x[2], s.z, r.x[2]), fmaf(r.x[3], s.w, r.x[3]))));
    if ((thread & 15) == 0)
      post4(at(p.at.squares[norm][parity]) + (row * kTiles + tile()) * 4, never_zero(squares));
  }

  __device__ __forceinline__ void add_up(Residual& r, size_t which, float4 g) {
    const int row = own_row();
    uint8_t* from = partial(which) + row * 256 + (thread & 15) * 16;
    const size_t step = static_cast<size_t>(p.rows) * 256;
    uint4 v[kStackSplits];
    fetch(v, row < p.rows ? kStackSplits : 0, false, [&](int i) { return from + i * step; });
    if (row >= p.rows) return;
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < kStackSplits; ++i) {
      clear16(from + i * step);
      sum[0] += __uint_as_float(v[i].x), sum[1] += __uint_as_float(v[i].y);
      sum[2] += __uint_as_float(v[i].z), sum[3] += __uint_as_float(v[i].w);
    }
    r.x[0] = round_bf16(fmaf(g.x, sum[0], r.x[0])), r.x[1] = round_bf16(fmaf(g.y, sum[1], r.x[1]));
    r.x[2] = round_bf16(fmaf(g.z, sum[2], r.x[2])), r.x[3] = round_bf16(fmaf(g.w, sum[3], r.x[3]));
  }

  // ---- clearing what this block wrote and everyone has read (see the top) ----
  __device__ __forceinline__ void clean() {
    const int t = thread - kWorkers - 32, own_rows = (p.rows - split() + 7) >> 3;
    pdl_wait();
    position = __ldcg(p.position);
    chunks = (position + p.rows + 63) >> 6;
    const auto rows16 = [&](uint8_t* to, int row_bytes, int rows,
                            int shift) {  // 2^shift times 16 bytes of every row
#pragma unroll 1
      for (int i = t; i < rows << shift; i += kJanitors)
        clear16(to + (i >> shift) * row_bytes + (i & ((1 << shift) - 1)) * 16);
    };
#pragma unroll 1
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const int now = layer & 1, before = now ^ 1;
      if (has_qkv()) statistics(p.at.squares[0][now]);
      statistics(p.at.squares[1][now]);
      named_barrier_sync(kCleaning, kWorkers + kJanitors);
#pragma unroll 1
      for (int norm = 0; norm < 2; ++norm) {
        const int parity = norm == 0 ? now : before;
        rows16(at(p.at.normed[norm][parity]) + split() * (kStackWidth * 2) + tile() * 128,
               8 * kStackWidth * 2, own_rows, 3);
        if (t < own_rows)
          post4(at(p.at.squares[norm][parity]) + ((split() + 8 * t) * kTiles + tile()) * 4, 0);
      }
      rows16(at(p.at.attended[now]) + (head() * kStackHeadDim + chunk() * 16) * 2, kQueryBytes, p.rows, 1);
      if (has_chunk() && t < p.rows)
        post8(at(p.at.extent[now]) + (static_cast<size_t>(head() * kStackChunks + chunk()) * p.rows + t) * 8,
              0, 0);
      rows16(at(p.at.hidden[before]) + block * 64, kStackMlp * 2, p.rows, 2);
      if (has_qkv()) {
        const int h = qkv_tile() >> 2;
        uint8_t* to = h < kStackHeads ? at(p.at.query[now]) + h * (kStackHeadDim * 2)
                                      : at(h == kStackHeads ? p.at.key[now] : p.at.value[now]);
        to += (qkv_tile() & 3) * 64;
        const int row_bytes = h < kStackHeads ? kQueryBytes : kKeyBytes;
        rows16(to, row_bytes, p.rows, 2);
        rows16(to + kStackHeadDim, row_bytes, p.rows, 2);
      }
      asm volatile("fence.acq_rel.gpu;" ::: "memory");
      __syncwarp();
      named_barrier_arrive(kCleaned, kGroup + kJanitors);
    }
  }

  enum Product { kQkv, kOut, kGateUp, kDown };
  // One product: activations staged, multiplied, finished. After out and down the second warpgroup adds up
  // the slices.
  __device__ __forceinline__ void multiply(int what, int layer, const StackVectors& v, const Vectors& own,
                                           Residual& r) {
    const int parity = layer & 1;
    const bool whole = what == kQkv || what == kGateUp;
    named_barrier_sync(kFree, kWorkers);
    if (whole)
      stage<7, kStackWidth * 2>(at(p.at.normed[what == kGateUp][parity]));
    else if (what == kOut)
      stage<5, kQueryBytes>(at(p.at.attended[parity]) + split() * (kStackHeadDim * 2));
    else
      stage<6, kStackMlp * 2>(at(p.at.hidden[parity]) + split() * (kStackMlp / kStackSplits * 2));
    staged();
    if (what == kGateUp) named_barrier_arrive(kCleaning, kWorkers + kJanitors);
    mark(layer, what * 3 + 1);
    const int stages = (whole ? kStackWidth : what == kOut ? kStackHeadDim : kStackMlp / kStackSplits) / 128;
    float bias_lo = 0.f, bias_hi = 0.f;
    float2 angle[2 * kOwn];
#pragma unroll
    for (int i = 0; i < 2 * kOwn; ++i) angle[i] = make_float2(1.f, 0.f);
    if (what == kQkv) load_angles(angle);
    const float* bias = what == kQkv ? v.bias1 : v.bias2;
    if (whole && bias != nullptr) {
      bias += what == kQkv ? (qkv_tile() >> 2) * kStackHeadDim + (qkv_tile() & 3) * 32 : block * 32;
      bias_lo = __ldg(bias + pair()),
      bias_hi = __ldg(bias + pair() + (what == kQkv ? kStackHeadDim / 2 : kStackMlp));
    }
    float sums[4 * kOwn] = {};
    {
      float d[N / 2] = {};
      product(d, stages);
      exchange(d, sums);
    }
    mark(layer, what * 3 + 2);
    if (whole) named_barrier_sync(kStatistics, statistics_threads());
    if (what == kQkv)
      finish_qkv(sums, angle, bias_lo, bias_hi, parity);
    else if (what == kGateUp)
      finish_gate_up(sums, bias_lo, bias_hi, parity);
    else
      finish_slice(sums, what == kOut ? p.at.partial_out : p.at.partial_down[parity]);
    if (whole || group() == 0) return;
    add_up(r, what == kOut ? p.at.partial_out : p.at.partial_down[parity],
           what == kOut ? own.gate1 : own.gate2);
    if (what == kOut) {
      publish(r, 1, parity, own.scale2);
    } else {
      named_barrier_sync(kCleaned, kGroup + kJanitors);
      if (layer + 1 < p.layer_count) publish(r, 0, parity ^ 1, own.next_scale1);
    }
  }

  __device__ __forceinline__ void compute() {
    pdl_wait();
    position = uniform(__ldcg(p.position));
    chunks = (position + p.rows + 63) >> 6;
    Residual r{};
    if (group() == 1) {
      if (own_row() < p.rows) {
        const uint2 x = __ldcg(reinterpret_cast<const uint2*>(p.x + own_row() * kStackWidth + own_column()));
        const float2 a = unpack2<__nv_bfloat16>(x.x), b = unpack2<__nv_bfloat16>(x.y);
        r = {a.x, a.y, b.x, b.y};
      }
      publish(r, 0, 0, own_of(shared->vectors[0].scale1, 0.f));
    }
#pragma unroll 1
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const int parity = layer & 1;
      const StackVectors& v = shared->vectors[layer];
      Vectors own{};
      if (group() == 1)
        own = {own_of(v.gate1, 1.f), own_of(v.scale2, 0.f), own_of(v.gate2, 1.f),
               own_of(shared->vectors[min(layer + 1, p.layer_count - 1)].scale1, 0.f)};
#pragma unroll 1
      for (int what = kQkv; what <= kDown; ++what) {
        mark(layer, what * 3);
        if (what != kQkv || has_qkv()) multiply(what, layer, v, own, r);
        if (what != kQkv) continue;
        mark(layer, 12);
        if (has_chunk()) {
          named_barrier_sync(kFree, kWorkers);
          stage<5, kQueryBytes>(at(p.at.query[parity]) + head() * (kStackHeadDim * 2));
          patch_chunk(parity);
          staged();
          mark(layer, 13);
          attend(parity);
        }
        mark(layer, 14);
        merge(parity);
        mark(layer, 15);
      }
    }
    if (group() == 1 && own_row() < p.rows) {
      *reinterpret_cast<uint2*>(p.y + own_row() * kStackWidth + own_column()) =
          make_uint2(pack2<__nv_bfloat16>(r.x[0], r.x[1]), pack2<__nv_bfloat16>(r.x[2], r.x[3]));
    }
    pdl_launch();
  }
};

template <int N>
__device__ __forceinline__ void decoder_stack(const DecoderStackParams& p) {
  extern __shared__ __align__(1024) uint8_t smem[];
  uint8_t* xs = smem + p.stages * kStackStageBytes;
  Shared* shared = reinterpret_cast<Shared*>(xs + kStackWidth / 64 * N * 128);
  Stack<N> stack{.p = p,
                 .ring = smem,
                 .xs = xs,
                 .shared = shared,
                 .thread = static_cast<int>(threadIdx.x),
                 .warp = static_cast<int>(warp_id()),
                 .lane = static_cast<int>(lane_id()),
                 .block = static_cast<int>(blockIdx.x)};
  if (threadIdx.x < p.stages) {
    mbarrier_init(&shared->full[threadIdx.x], 1);
    mbarrier_init(&shared->empty[threadIdx.x], 4);
  }
  fence_barrier_init();
  for (int i = threadIdx.x; i < p.layer_count; i += kThreads) shared->vectors[i] = p.vectors[i];
  __syncthreads();
  if (stack.warp < kWorkers / 32) {
    register_increase<232>();
    stack.compute();
    return;
  }
  register_decrease<40>();
  if (stack.warp > kWorkers / 32)
    stack.clean();
  else if (elect_one())
    stack.produce();
}

}  // namespace

#define FLASHRT_STACK(N)                                                 \
  extern "C" __global__ void __launch_bounds__(kThreads, 1)              \
      decoder_stack_n##N(const __grid_constant__ DecoderStackParams p) { \
    decoder_stack<N>(p);                                                 \
  }
FLASHRT_STACK(16)
FLASHRT_STACK(56)
FLASHRT_STACK(64)

}  // namespace flashrt
