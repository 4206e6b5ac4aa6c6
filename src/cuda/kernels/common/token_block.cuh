// What every part of the persistent token stack needs: a block's place, its shared memory, hand-offs,
// experts.
//
// Hand-offs go through L2: readers wait for the data itself. A half-word, or an f32 word, of 0 says "not
// written yet". There are two sets of buffers, used by layers in turn; a loading warp of each block clears
// its share of the set that the next layer will use. That set's readers are done when a block has this
// layer's input, and nobody writes it before he has all of this layer's hidden values, which blocks publish
// behind their clearing.
#pragma once
#include "cuda/kernels/common/handoff.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/token_stack_params.h"

namespace flashrt {

constexpr int kTokenWorkers = kTokenWarps * 32;
// Barriers: of the multiplying warps; with the clearing warp, when a layer's input is there, and when it has
// cleared.
enum TokenBarrier { kTokenAll = 1, kTokenInput, kTokenCleared };

// Ranges of the keys before this token's: the first key seen; this block's tiles; how many ranges have keys.
struct TokenRange {
  int begin, first, last, active;
};

struct TokenShared {
  Mbarrier full[kTokenWarps][kTokenMostSlots], empty[kTokenWarps][kTokenMostSlots];
  float squares[kTokenWarps];
  float2 extents[kTokenWarps + 1][kTokenMostQueries];  // of each warp's keys; then of the token's own
  uint32_t value[128 / 2];                             // the token's own, bf16
  int chosen[kTokenLoaders][kTokenMostUsed];
  uint32_t residual[kTokenMostOwn];  // this block's part of the residual stream, two columns each
  TokenRange ranges[2];              // of all keys; of a window
  float4 turn[32];                   // of the rotation: (cos, sin) of two neighbouring dims
};

static_assert(sizeof(TokenShared) <= kTokenSharedBytes && sizeof(TokenLayer) % 16 == 0);

__device__ __forceinline__ uint32_t never_zero(float v) {
  const uint32_t w = __float_as_uint(v);
  return w != 0 ? w : 0x80000000u;
}
__device__ __forceinline__ uint32_t least(uint4 v) {
  return min(min(v.x, v.y), min(v.z, v.w));
}  // 0 when any word is
__device__ __forceinline__ bool has_zero_half(uint32_t w) {
  return ((w - 0x00010001u) & ~w & 0x80008000u) != 0;
}
__device__ __forceinline__ bool has_zero_half(uint4 v) {
  return has_zero_half(v.x) || has_zero_half(v.y) || has_zero_half(v.z) || has_zero_half(v.w);
}
// Two values as bf16, neither of them +0.
__device__ __forceinline__ uint32_t pack_nonzero(float a, float b) {
  uint32_t w = pack2<__nv_bfloat16>(a, b);
  if ((w & 0xffffu) == 0) w |= 0x8000u;
  if ((w >> 16) == 0) w |= 0x80000000u;
  return w;
}
// A read of constants that is not moved behind the wait that follows it.
__device__ __forceinline__ float4 read_early(const float* p) {
  float4 v;
  asm volatile("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(p)
               : "memory");
  return v;
}

struct TokenBlock {
  const TokenStackParams& p;
  uint8_t* smem;
  int thread, warp, lane, block, blocks;
  int position = 0;
  // of a multiplying warp's ring
  int slot = 0;
  uint32_t phase = 0;

  __device__ __forceinline__ TokenShared& shared() const {
    return *reinterpret_cast<TokenShared*>(smem + p.shared_at);
  }
  __device__ __forceinline__ const TokenLayer& layer_at(int i) const {
    return reinterpret_cast<const TokenLayer*>(smem + p.layers_at)[i];
  }
  __device__ __forceinline__ uint32_t x() const { return smem_u32(smem) + p.x_at; }
  __device__ __forceinline__ uint8_t* at(int set, size_t offset) const {
    return p.exchange + (set != 0 ? p.at.set : 0) + offset;
  }
  __device__ __forceinline__ static void sync_workers() { named_barrier_sync(kTokenAll, kTokenWorkers); }

  // One warp: this block's share of a set.
  __device__ __forceinline__ void clear(int set) const {
    for (int i = block * 32 + lane; i < int(p.at.set / 16); i += blocks * 32)
      asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %1, %1, %1};" ::"l"(at(set, 0) + int64_t(i) * 16),
                   "r"(0)
                   : "memory");
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
    __syncwarp();
  }

  // ---- a warp's ring ----
  __device__ __forceinline__ uint32_t stage() const {  // its shared address, when the stage is there
    mbarrier_wait(&shared().full[warp][slot], phase);
    return smem_u32(smem) + (warp * p.slots + slot) * kTokenStageBytes;
  }
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&shared().empty[warp][slot]);
    if (++slot == p.slots) slot = 0, phase ^= 1;
  }

  template <int D>
  __device__ TokenRange range(bool windowed) const {
    constexpr int kKeys = token_tile_keys(D);
    TokenRange r;
    r.begin = windowed && position + 1 > p.window ? position + 1 - p.window : 0;
    const int tiles = (position - r.begin + kKeys - 1) / kKeys;
    const int each = max(1, (tiles + p.splits - 1) / p.splits), split = block / p.kv_heads;
    r.active = max(1, (tiles + each - 1) / each);
    r.first = min(split * each, tiles), r.last = min(r.first + each, tiles);
    return r;
  }

  // ---- experts: the `used` ones with the largest logits, the first of equal ones (Shazeer et al. 2017) ----
  // Lane i gets the i-th and its probability.
  __device__ __forceinline__ void choose(int set, int& chosen, float& share) const {
    constexpr int kEach = kTokenMostExperts / 32;
    uint32_t word[kEach] = {};
    Patience patience;
    const uint8_t* from = at(set, p.at.router);
    if (lane == 0)
      while (peek4(from + 4 * (block % p.experts)) == 0) patience.spend();
    __syncwarp();
    while (true) {
      bool there = true;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        if (lane + 32 * j < p.experts) word[j] = peek4(from + 4 * (lane + 32 * j));
      }
#pragma unroll
      for (int j = 0; j < kEach; ++j) there = there && (lane + 32 * j >= p.experts || word[j] != 0);
      if (__all_sync(0xffffffffu, there)) break;
      patience.spend();
    }
    uint32_t key[kEach];  // ordered as the values are; 0: none. NaN: some expert, and a NaN share
    float all = 0.f;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const uint32_t w = word[j] == 0x80000000u ? 0 : word[j];
      key[j] = lane + 32 * j < p.experts ? max(1u, w ^ (int(w) < 0 ? 0xffffffffu : 0x80000000u)) : 0;
    }
    const auto value = [](uint32_t k) {
      return __uint_as_float(k ^ (int(k) < 0 ? 0x80000000u : 0xffffffffu));
    };
    chosen = 0;
    float mine = -INFINITY, first = 0.f;
#pragma unroll 1
    for (int i = 0; i < p.used; ++i) {
      uint32_t top = 0;
#pragma unroll
      for (int j = 0; j < kEach; ++j) top = max(top, key[j]);
      const uint32_t best = __reduce_max_sync(0xffffffffu, top);
      uint32_t place = ~0u;
#pragma unroll
      for (int j = kEach - 1; j >= 0; --j) place = key[j] == best ? lane + 32 * j : place;
      const uint32_t at = min(__reduce_min_sync(0xffffffffu, place), uint32_t(p.experts - 1));
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        if (uint32_t(lane + 32 * j) == at) key[j] = 0;
      }
      if (i == 0) first = value(best);
      if (i == lane) chosen = int(at), mine = value(best);
    }
    share = lane < p.used ? expf(mine - first) : 0.f;
    float sum = share;
    if (!p.normalise) {
#pragma unroll
      for (int j = 0; j < kEach; ++j)
        all += lane + 32 * j < p.experts ? expf(__uint_as_float(word[j]) - first) : 0.f;
      sum = all;
    }
#pragma unroll
    for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    share /= sum;
  }

  // Of product `what` (kTokenWorks: attention): 0 … 7 the warps' ends, 8 begin, 9 asked, 10 fetched, 11
  // staged; of attention 9 queries there, 10 tiles done, 11 published, 12 … merged.
  __device__ __forceinline__ void mark(int layer, int what, int slot) const {
#ifdef FLASHRT_STACK_TRACE
    if (p.trace != nullptr && lane == 0) {
      unsigned long long now;
      asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
      p.trace[((static_cast<size_t>(block) * (p.layer_count + 1) + layer) * (kTokenWorks + 1) + what) * 16 +
              slot] = now;
    }
#endif
  }
  __device__ __forceinline__ void mark_first(int layer, int what, int slot) const {
    if (warp == 0) mark(layer, what, slot);
  }
};

}  // namespace flashrt
