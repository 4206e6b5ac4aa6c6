// Attention of one token inside the persistent token stack: norms of the heads, rotation, append, all keys;
// then the merge of the key ranges (Dao et al. 2023, "flash-decoding").
//
// A block is a key head and a range of keys. Its warps take tiles of keys in turn and score them with all
// heads that share the key head (rows of an m16n8k16 product); the token's own key counts as one more warp's.
#pragma once
#include "cuda/kernels/common/mma_sync.cuh"
#include "cuda/kernels/common/token_block.cuh"

namespace flashrt {

template <int D>
struct TokenAttention {
  static constexpr int kKeys = token_tile_keys(D), kPitch = D * 2 + 16;  // bytes between two prepared queries
  static constexpr int kGroupBytes = kKeys * 128;                        // of a tile: 64 columns of its keys
  static constexpr int kHalf = kTokenStageBytes / 2;                     // keys, then values

  TokenBlock& b;
  const TokenLayer& l;
  int layer, set, kv_head, split;

  // Four dims per lane, (2l, 2l + 1, 2l + D/2, 2l + 1 + D/2), in lanes below D/4.
  __device__ __forceinline__ bool holds() const { return b.lane < D / 4; }
  __device__ __forceinline__ void read_head(int head, uint32_t (&w)[2]) const {
    const uint8_t* from = b.at(set, b.p.at.qkv) + (head * D + 2 * b.lane) * 2;
    Patience patience;
    w[0] = w[1] = 0x80008000u;
    if (holds()) {
      do {
        w[0] = peek4(from), w[1] = peek4(from + D);
        patience.spend();
      } while (has_zero_half(w[0]) || has_zero_half(w[1]));
    }
    __syncwarp();
  }
  __device__ __forceinline__ static void unpack(const uint32_t (&w)[2], float (&v)[4]) {
    const float2 lo = unpack2<__nv_bfloat16>(w[0]), hi = unpack2<__nv_bfloat16>(w[1]);
    v[0] = lo.x, v[1] = lo.y, v[2] = hi.x, v[3] = hi.y;
  }
  // Normalised, rotated, rounded.
  __device__ __forceinline__ void prepare(uint32_t (&w)[2], const float (&norm)[4], bool normed,
                                          float4 turn) const {
    float v[4];
    unpack(w, v);
    if (normed) {
      float sum = (v[0] * v[0] + v[1] * v[1]) + (v[2] * v[2] + v[3] * v[3]);
#pragma unroll
      for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      const float rate = rsqrtf(sum * (1.f / D) + b.p.eps);
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] *= rate * (1.f + norm[j]);
    }
    w[0] = pack2<__nv_bfloat16>(v[0] * turn.x - v[2] * turn.y, v[1] * turn.z - v[3] * turn.w);
    w[1] = pack2<__nv_bfloat16>(v[2] * turn.x + v[0] * turn.y, v[3] * turn.z + v[1] * turn.w);
  }
  __device__ __forceinline__ void read_norm(const float* from, float (&v)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      v[j] = from != nullptr && holds() ? __ldg(from + 2 * b.lane + (j & 1) + (j >> 1) * (D / 2)) : 0.f;
  }

  // Warp w prepares query w; where the token's own key belongs to this block, it also scores that.
  __device__ __forceinline__ void prepare_queries(float4 turn) const {
    const TokenStackParams& p = b.p;
    const bool own = split == 0;
    if (b.warp < p.group) {
      float q_norm[4], k_norm[4];
      read_norm(l.q_norm, q_norm), read_norm(l.k_norm, k_norm);
      uint32_t q[2], k[2];
      read_head(kv_head * p.group + b.warp, q);
      if (own) read_head(p.heads + kv_head, k);
      prepare(q, q_norm, l.q_norm != nullptr, turn);
      if (holds()) {
        uint8_t* to = b.smem + p.queries_at + b.warp * kPitch + b.lane * 4;
        *reinterpret_cast<uint32_t*>(to) = q[0], *reinterpret_cast<uint32_t*>(to + D) = q[1];
      }
      if (own) {
        prepare(k, k_norm, l.k_norm != nullptr, turn);
        float x[4], y[4];
        unpack(q, x), unpack(k, y);
        float score = (x[0] * y[0] + x[1] * y[1]) + (x[2] * y[2] + x[3] * y[3]);
#pragma unroll
        for (int o = 16; o > 0; o /= 2) score += __shfl_xor_sync(0xffffffffu, score, o);
        if (b.lane == 0) b.shared().extents[kTokenWarps][b.warp] = make_float2(score * p.score_scale, 1.f);
        if (b.warp == 0) append(l.k_cache, k);
      }
    }
    if (own && b.warp == kTokenWarps - 1) {
      uint32_t v[2];
      read_head(p.heads + p.kv_heads + kv_head, v);
      if (holds()) b.shared().value[b.lane] = v[0], b.shared().value[b.lane + D / 4] = v[1];
      append(l.v_cache, v);
    } else if (!own && b.warp == kTokenWarps - 1 && b.lane < kTokenMostQueries) {
      b.shared().extents[kTokenWarps][b.lane] = make_float2(-INFINITY, 0.f);
    }
  }
  __device__ __forceinline__ void append(__nv_bfloat16* cache, const uint32_t (&w)[2]) const {
    if (!holds() || b.position >= b.p.capacity) return;
    uint8_t* to = reinterpret_cast<uint8_t*>(cache) +
                  ((int64_t(b.position) * b.p.kv_heads + kv_head) * D + 2 * b.lane) * 2;
    *reinterpret_cast<uint32_t*>(to) = w[0], *reinterpret_cast<uint32_t*>(to + D) = w[1];
  }

  // One tile of which the first `valid` keys exist: out and sum are relative to 2^top.
  __device__ __forceinline__ void attend(uint32_t tile, int valid, const uint32_t (&q)[D / 16][2], float& top,
                                         float& sum, float (&out)[D / 8][4]) const {
    const int t = b.lane & 3;
    float s[kKeys / 8][4] = {};
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      const uint32_t row = tile + (n * 8 + (b.lane & 7)) * 128;
#pragma unroll
      for (int k = 0; k < D / 32; ++k) {
        const int chunk = 4 * k + (b.lane >> 3);
        uint32_t r[4];
        ldmatrix_x4(row + (chunk >> 3) * kGroupBytes + (((chunk ^ b.lane) & 7) << 4), r);
        mma_16816<__nv_bfloat16>(s[n], {q[2 * k][0], 0, q[2 * k][1], 0}, r[0], r[1]);
        mma_16816<__nv_bfloat16>(s[n], {q[2 * k + 1][0], 0, q[2 * k + 1][1], 0}, r[2], r[3]);
      }
    }
    float best = top;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        s[n][j] = n * 8 + 2 * t + j < valid ? s[n][j] * b.p.score_scale : -INFINITY;
        best = fmaxf(best, s[n][j]);
      }
    }
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
    const float kept = exp2_fast(top - best);
    top = best, sum *= kept;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) out[d][0] *= kept, out[d][1] *= kept;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) s[n][j] = exp2_fast(s[n][j] - best), sum += s[n][j];
    }
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      const uint32_t weights[4] = {pack2<__nv_bfloat16>(s[2 * k][0], s[2 * k][1]), 0,
                                   pack2<__nv_bfloat16>(s[2 * k + 1][0], s[2 * k + 1][1]), 0};
      // what lies behind the keys may be anything
      const int left = valid - k * 16 - 2 * t;
      const uint32_t low = (left > 0 ? 0xffffu : 0u) | (left > 1 ? 0xffff0000u : 0u);
      const uint32_t high = (left > 8 ? 0xffffu : 0u) | (left > 9 ? 0xffff0000u : 0u);
      const uint32_t row = tile + kHalf + (k * 16 + (b.lane & 15)) * 128;
#pragma unroll
      for (int d = 0; d < D / 16; ++d) {
        const int chunk = 2 * d + (b.lane >> 4);
        uint32_t r[4];
        ldmatrix_x4_trans(row + (chunk >> 3) * kGroupBytes + (((chunk ^ b.lane) & 7) << 4), r);
        mma_16816<__nv_bfloat16>(out[2 * d], weights, r[0] & low, r[1] & high);
        mma_16816<__nv_bfloat16>(out[2 * d + 1], weights, r[2] & low, r[3] & high);
      }
    }
  }

  // This block's range, published; nothing when it has none.
  __device__ __forceinline__ void run(const TokenRange& range) {
    const TokenStackParams& p = b.p;
    if (split >= min(p.splits, range.active)) return;
    const size_t unit = size_t(kv_head) * p.splits + split;
    const size_t partial = p.at.partial + unit * p.group * D * 4, extent = p.at.extent + unit * p.group * 8;
    prepare_queries(b.shared().turn[b.lane]);
    TokenBlock::sync_workers();
    b.mark_first(layer, kTokenWorks, 9);
    uint32_t q[D / 16][2];  // rows beyond the group repeat its last
    const uint32_t from =
        smem_u32(b.smem) + p.queries_at + min(b.lane & 7, p.group - 1) * kPitch + (b.lane >> 3) * 16;
#pragma unroll
    for (int k = 0; k < D / 32; ++k) {
      uint32_t r[4];
      ldmatrix_x4(from + k * 64, r);
      q[2 * k][0] = r[0], q[2 * k][1] = r[1], q[2 * k + 1][0] = r[2], q[2 * k + 1][1] = r[3];
    }
    float top = -1e30f, sum = 0.f, out[D / 8][4] = {};
#pragma unroll 1
    for (int tile = range.first + b.warp; tile < range.last; tile += kTokenWarps) {
      attend(b.stage(), b.position - range.begin - tile * kKeys, q, top, sum, out);
      b.release();
    }
    b.mark_first(layer, kTokenWorks, 10);
    merge_warps(top, sum, out, partial, extent);
    b.mark_first(layer, kTokenWorks, 11);
  }

  // The warps' results, added in the order of the warps, in parts of so many columns as fit over x.
  __device__ __forceinline__ void merge_warps(float top, float sum, float (&out)[D / 8][4], size_t partial,
                                              size_t extent) const {
    const TokenStackParams& p = b.p;
    const int g = b.lane >> 2, t = b.lane & 3;
    TokenShared& shared = b.shared();
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (t == 0) shared.extents[b.warp][g] = make_float2(top, sum);
    TokenBlock::sync_workers();
    float best = -1e30f;
#pragma unroll
    for (int w = 0; w <= kTokenWarps; ++w) best = fmaxf(best, shared.extents[w][g].x);
    const float rate = exp2_fast(top - best);
    const auto part = [&]<int kBegin, int kColumns>() {
      constexpr int kRow = kColumns + 8;
      float* area = reinterpret_cast<float*>(b.smem + p.x_at);
      if (g < p.group) {
        float* to = area + (b.warp * p.group + g) * kRow + 2 * t;
#pragma unroll
        for (int d = 0; d < kColumns / 8; ++d)
          *reinterpret_cast<float2*>(to + d * 8) =
              make_float2(out[kBegin / 8 + d][0] * rate, out[kBegin / 8 + d][1] * rate);
      }
      TokenBlock::sync_workers();
      for (int i = b.thread; i < p.group * kColumns; i += kTokenWorkers) {
        const int row = i / kColumns, c = i % kColumns, column = kBegin + c;
        float base = -1e30f, total = 0.f, value = 0.f;
#pragma unroll
        for (int w = 0; w <= kTokenWarps; ++w) base = fmaxf(base, shared.extents[w][row].x);
#pragma unroll
        for (int w = 0; w < kTokenWarps; ++w) value += area[(w * p.group + row) * kRow + c];
        const float2 own = shared.extents[kTokenWarps][row];
        const float weight = exp2_fast(own.x - base);
        const float v = __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(shared.value)[column]);
        if (own.y != 0.f) value = fmaf(weight, v, value);
        post4(b.at(set, partial) + (row * D + column) * 4, never_zero(value));
        if (column != 0) continue;
#pragma unroll
        for (int w = 0; w <= kTokenWarps; ++w) {
          const float2 e = shared.extents[w][row];
          total = fmaf(e.y, exp2_fast(e.x - base), total);
        }
        post8(b.at(set, extent) + row * 8, never_zero(base), never_zero(total));
      }
    };
    if (D == 64 || kTokenWarps * p.group * (D + 8) * 4 <= p.x_bytes) {
      part.template operator()<0, D>();
    } else {
      part.template operator()<0, D / 2>();
      TokenBlock::sync_workers();
      part.template operator()<D / 2, D / 2>();
    }
  }

  // Four columns of a head per warp, a range per lane.
  __device__ __forceinline__ static void merge(const TokenBlock& b, int set, int active) {
    const TokenStackParams& p = b.p;
    const int packets = p.heads * (D / 4);
#pragma unroll 1
    for (int i = b.block + b.warp * b.blocks; i < packets; i += kTokenWarps * b.blocks) {
      const int head = i / (D / 4), kv_head = head / p.group, g = head - kv_head * p.group;
      const size_t unit = size_t(kv_head) * p.splits + b.lane;
      const uint8_t* sums = b.at(set, p.at.partial) + ((unit * p.group + g) * D + i % (D / 4) * 4) * 4;
      const uint8_t* extent = b.at(set, p.at.extent) + (unit * p.group + g) * 8;
      uint4 v = make_uint4(0, 0, 0, 0);
      uint2 e = make_uint2(0xff800000u, 0);  // −∞, 0
      Patience patience;
      if (b.lane < active) {
        do {
          v = peek8x2(sums), e = peek8(extent);
          patience.spend();
        } while (least(v) == 0 || e.x == 0 || e.y == 0);
      }
      __syncwarp();
      float top = __uint_as_float(e.x);
#pragma unroll 1
      for (int o = 1; o < active; o *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
      top = __shfl_sync(0xffffffffu, top, 0);
      const float weight = exp2_fast(__uint_as_float(e.x) - top);
      float out[5] = {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w),
                      __uint_as_float(e.y)};
#pragma unroll
      for (int j = 0; j < 5; ++j) out[j] *= weight;
#pragma unroll 1
      for (int o = 1; o < active; o *= 2) {
#pragma unroll
        for (int j = 0; j < 5; ++j) out[j] += __shfl_xor_sync(0xffffffffu, out[j], o);
      }
      const float rate = __fdividef(1.f, out[4]);
      if (b.lane == 0)
        post8(b.at(set, p.at.attended) + size_t(i) * 8, pack_nonzero(out[0] * rate, out[1] * rate),
              pack_nonzero(out[2] * rate, out[3] * rate));
    }
  }
};

}  // namespace flashrt
