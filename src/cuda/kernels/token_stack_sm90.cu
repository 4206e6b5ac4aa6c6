// One token through all layers of a decoder and the output matrix in one launch: one block per
// multiprocessor, weights and cached keys streaming through shared memory ahead of every dependency, vectors
// handed from block to block through L2.
//
// A layer is a chain of hand-offs:
//   residual stream → qkv → attention over ranges of keys → their merge → out → (router →) gate_up → down → …
// Every block stages the whole vector of a product (normalised where a norm precedes it) and multiplies its
// rows; a warp takes two rows at a time (stage_dot.cuh) and publishes their results itself. Loading warps run
// through the same rows in the same order, at a pace: what queues in front of the memory would delay the
// hand-offs. They wait for nothing but free stages and the choice of experts.
//
// All sums have a fixed order: results do not vary from run to run.
#include "cuda/kernels/common/activation.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/stage_dot.cuh"
#include "cuda/kernels/common/token_attention.cuh"

namespace flashrt {
namespace {

template <int D>
struct TokenStack : TokenBlock {
  int kv_head, split, chosen = 0;  // lane i: the i-th expert
  float share = 0.f;
  float rstd = 1.f;

  __device__ __forceinline__ bool has_experts() const { return p.experts > 0; }
  __device__ __forceinline__ int first_unit(const TokenProduct& q) const {
    const int first = block - q.shift;
    return first < 0 ? first + blocks : first;
  }

  // ---- loading: warp `loader` fills the rings loader, loader + kTokenLoaders, … ----
  int loader = 0;
  uint32_t rings = 0;   // per ring 4 bits: slot, parity << 2
  uint32_t recent = 0;  // the latest stages, a byte each: parity, slot << 1, ring << 3, 128
  uint32_t due = 0;     // ns
  __device__ __forceinline__ static uint32_t now() {
    uint32_t v;
    asm volatile("mov.u32 %0, %globaltimer_lo;" : "=r"(v));
    return v;
  }

  // One lane: the next stage of a ring, to be filled with `bytes`.
  __device__ __forceinline__ uint32_t open(int w, uint32_t bytes, uint32_t& bar) {
    const uint32_t state = rings >> (4 * w) & 15, slot = state & 3, parity = state >> 2;
    const uint32_t index = w * kTokenMostSlots + slot, full = smem_u32(shared().full);
    mbarrier_wait(smem_u32(shared().empty) + index * 8, parity ^ 1);
    const uint32_t old = recent >> (8 * p.in_flight - 8) & 255;
    if (old != 0) {
      const uint32_t ring = old >> 3 & 15, at = old >> 1 & 3, state_now = rings >> (4 * ring) & 15;
      // a slot that has been opened again since has landed
      if (((state_now >> 2) ^ (at < (state_now & 3) ? 0 : 1)) == (old & 1))
        mbarrier_wait(full + (ring * kTokenMostSlots + at) * 8, old & 1);
    }
    if (p.pace > 0) {
      due += bytes * p.pace / kTokenStageBytes;
      uint32_t time = now();
      while (int(time - due) > p.pace)
        due += p.pace;  // late: whole steps, so that blocks do not fall into step
      while (int(time - due) < 0) time = now();
    }
    bar = full + index * 8;
    recent = recent << 8 | 128 | w << 3 | slot << 1 | parity;
    rings = (rings & ~(15u << (4 * w))) | (slot + 1 < uint32_t(p.slots) ? state + 1 : (state & 4) ^ 4)
                                              << (4 * w);
    mbarrier_arrive_expect_tx(bar, bytes);
    return smem_u32(smem) + (w * p.slots + slot) * kTokenStageBytes;
  }
  __device__ __forceinline__ static void load(uint32_t to, const uint8_t* from, uint32_t bytes,
                                              uint32_t bar) {
    bulk_load(to, from, bytes, bar, L2Hint::evict_first);
  }

  // A block's units go to the rings in turn.
  __device__ __forceinline__ static int ring_of(const TokenProduct& q, int i) {
    return (i + q.turn) & (kTokenWarps - 1);
  }
  __device__ __forceinline__ int own_first(const TokenProduct& q) const {
    return (loader - q.turn) & (kTokenLoaders - 1);
  }

  __device__ __forceinline__ void load_product(const TokenProduct& q, const uint8_t* weights) {
    const int first = first_unit(q), own = own_first(q);
    const int64_t step = q.step * blocks;
    weights += first * q.step;
    const uint32_t last_bytes = q.last_columns * 2;
    for (int left = (q.units - first + blocks - 1) / blocks; left > 0; left -= kTokenWarps) {
      const int warps = min(left, kTokenWarps);
      // Units that fit a ring one after the other; of longer ones, stage after stage of all rings.
      const int together = q.stages < p.slots ? q.stages : 1;
      const uint8_t* stage = weights + own * step;
#pragma unroll 1
      for (int begin = 0; begin < q.stages; begin += together, stage += together * kTokenStageColumns * 2) {
        const uint8_t* from = stage;
#pragma unroll 1
        for (int i = own; i < warps; i += kTokenLoaders, from += kTokenLoaders * step) {
#pragma unroll 1
          for (int c = begin; c < begin + together; ++c) {
            const uint32_t bytes = c + 1 < q.stages ? kTokenStageColumns * 2 : last_bytes;
            const uint8_t* chunk = from + (c - begin) * kTokenStageColumns * 2;
            uint32_t bar;
            const uint32_t to = open(ring_of(q, i), 2 * bytes, bar);
            load(to, chunk, bytes, bar);
            load(to + q.second, chunk + q.apart, bytes, bar);
          }
        }
      }
      weights += step * kTokenWarps;
    }
  }
  // Units of the chosen experts, one after the other.
  __device__ __forceinline__ void load_expert_gate_up(const TokenProduct& q, const uint8_t* weights) {
    int inside = first_unit(q) + own_first(q) * blocks, e = 0;
    const auto skip = [&] {
      while (inside >= p.mlp) inside -= p.mlp, ++e;
    };
    skip();
#pragma unroll 1
    for (int i = own_first(q); e < p.used; i += kTokenLoaders) {
      const uint8_t* from =
          weights + (int64_t(shared().chosen[loader][e]) * 2 * p.mlp + inside) * q.row_bytes;
      const uint32_t bytes = q.row_bytes;
      uint32_t bar;
      const uint32_t to = open(ring_of(q, i), 2 * bytes, bar);
      load(to, from, bytes, bar);
      load(to + q.second, from + q.apart, bytes, bar);
      inside += kTokenLoaders * blocks;
      skip();
    }
  }
  // Of every chosen expert the two rows of a unit, which are neighbours.
  __device__ __forceinline__ void load_expert_down(const TokenProduct& q, const uint8_t* weights) {
    const int first = first_unit(q);
    const int64_t expert_bytes = int64_t(p.width) * q.row_bytes;
    const uint32_t bytes = 2 * q.row_bytes;
    weights += first * q.step;
    for (int left = (q.units - first + blocks - 1) / blocks; left > 0; left -= kTokenWarps) {
      const int warps = min(left, kTokenWarps);
#pragma unroll 1
      for (int e = 0; e < p.used; e += q.segments) {
        const int count = min(q.segments, p.used - e);
#pragma unroll 1
        for (int u = own_first(q); u < warps; u += kTokenLoaders) {
          uint32_t bar;
          const uint32_t to = open(ring_of(q, u), count * bytes, bar);
#pragma unroll 1
          for (int i = 0; i < count; ++i)
            load(to + i * bytes,
                 weights + u * q.step * blocks + shared().chosen[loader][e + i] * expert_bytes, bytes, bar);
        }
      }
      weights += q.step * blocks * kTokenWarps;
    }
  }
  __device__ __forceinline__ void load_keys(const TokenMaps* maps, const TokenRange& r) {
    constexpr int kKeys = token_tile_keys(D);
    if (split >= p.splits) return;
    int w = loader;
#pragma unroll 1
    for (int tile = r.first + loader; tile < r.last;
         tile += kTokenLoaders, w = (w + kTokenLoaders) % kTokenWarps) {
      uint32_t bar;
      const uint32_t to = open(w, kTokenStageBytes, bar);
      const int key = r.begin + tile * kKeys, column = kv_head * (D / 64);
      tma_load_3d(to, &maps->k, bar, 0, key, column);
      tma_load_3d(to + kTokenStageBytes / 2, &maps->v, bar, 0, key, column);
    }
  }
  // Small vectors of a layer into L2, before every block asks for them at once.
  __device__ __forceinline__ void bring_vectors(const TokenLayer& l) const {
    if (loader != 0) return;
    const auto bring = [&](const float* v, int count, int who) {
      if (v != nullptr && block == who % blocks) bulk_prefetch(v, count * 4);
    };
    bring(l.norm1, p.width, 0), bring(l.norm2, p.width, 1);
    bring(l.qkv_bias, p.product[kTokenQkv].units * 2, 2);
    bring(l.q_norm, D, 3), bring(l.k_norm, D, 3);
  }
  // The next layer's first rows, while this one's experts are not known.
  __device__ __forceinline__ void bring_rows(const TokenProduct& q, const uint8_t* weights) const {
    int left = p.ahead;
    for (int unit = first_unit(q) + loader * blocks; unit < q.units && left > 0;
         unit += kTokenLoaders * blocks, --left)
      bulk_prefetch(weights + unit * q.step, 2 * q.row_bytes);
  }

  __device__ __forceinline__ void produce() {
    const int last = p.layer_count - 1;
    loader = warp - kTokenWarps;
    due = now() + (loader * blocks + block) * p.pace / (kTokenLoaders * blocks);  // one after another
    TokenRange whole{}, windowed{};
    int set = 0;
#pragma unroll 1
    for (int i = 0; i <= last; ++i, set ^= 1) {
      const TokenLayer& l = layer_at(i);
      if (lane == 0) {
        bring_vectors(layer_at(min(i + 1, last)));
        load_product(p.product[kTokenQkv], l.qkv);
      }
      __syncwarp();
      if (i == 0) {
        pdl_wait();
        position = __ldcg(p.position);
        set = generation() & 1;
        whole = range<D>(false), windowed = range<D>(true);
      }
      if (lane == 0) load_keys(p.maps + i, l.windowed ? windowed : whole);
      __syncwarp();
      if (loader == kTokenLoaders - 1) {
        named_barrier_sync(kTokenInput, kTokenWorkers + 32);
        clear(set ^ 1);
        named_barrier_arrive(kTokenCleared, kTokenWorkers + 32);
      }
      if (lane == 0) load_product(p.product[kTokenOut], l.out);
      if (has_experts()) {
        if (lane == 0) {
          load_product(p.product[kTokenRouter], l.router);
          if (i < last) bring_rows(p.product[kTokenQkv], layer_at(i + 1).qkv);
        }
        __syncwarp();
        choose(set, chosen, share);
        if (lane < p.used) shared().chosen[loader][lane] = chosen;
        __syncwarp();
        if (lane == 0) {
          load_expert_gate_up(p.product[kTokenGateUp], l.gate_up);
          load_expert_down(p.product[kTokenDown], l.down);
        }
      } else if (lane == 0) {
        load_product(p.product[kTokenGateUp], l.gate_up);
        load_product(p.product[kTokenDown], l.down);
      }
      __syncwarp();
    }
    if (lane == 0) load_product(p.product[kTokenHead], p.head);
    __syncwarp();
  }
  __device__ __forceinline__ int generation() const { return int(peek4(p.exchange + p.at.generation)); }

  // ---- vectors into shared memory, as bf16; a norm's factor 1/rms is left to the results ----
  // Loads the packets at from + 16·(thread + 256·i) until all are there. While many are missing one lane of a
  // warp asks, another one in every block: who asks for everything again and again, or for the same as all
  // others, delays what he waits for.
  template <int kAtOnce, class There>
  __device__ __forceinline__ void fetch(uint4 (&v)[kAtOnce], const uint8_t* from, int packets, bool knock,
                                        There&& there) const {
    Patience patience;
    if (knock) {
      const int packet = warp * 32 + (block & 31);
      if (lane == (block & 31) && packet < packets)
        while (!there(peek8x2(from + packet * 16))) patience.spend();
      __syncwarp();
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) v[i] = make_uint4(0, 0, 0, 0);
    while (true) {
      int missing = -1;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int packet = i * kTokenWorkers + thread;
        if (packet < packets && !there(v[i])) v[i] = peek8x2(from + packet * 16);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int packet = i * kTokenWorkers + thread;
        if (packet < packets && !there(v[i])) missing = packet;
      }
      const uint32_t late = __ballot_sync(0xffffffffu, missing >= 0);
      if (late == 0) break;
      if (__popc(late) > 2) {
        const int turn = block & 31, next = __ffs(__funnelshift_r(late, late, turn)) - 1;
        if (lane == ((next + turn) & 31))
          while (!there(peek8x2(from + missing * 16))) patience.spend();
        __syncwarp();
      }
      patience.spend();
    }
  }
  __device__ __forceinline__ void norm_factor(float squares, float eps) {
#pragma unroll
    for (int o = 16; o > 0; o /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, o);
    if (lane == 0) shared().squares[warp] = squares;
    sync_workers();
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < kTokenWarps; ++w) sum += shared().squares[w];
    rstd = rsqrtf(sum / float(p.width) + eps);
  }

  // A plain vector.
  __device__ __forceinline__ void stage_plain(int layer, int what, const uint8_t* from, int columns) {
    constexpr int kAtOnce = 6;
    const int packets = columns / 8;
#pragma unroll 1
    for (int begin = 0; begin < packets; begin += kAtOnce * kTokenWorkers) {
      uint4 v[kAtOnce];
      fetch(v, from + begin * 16, packets - begin, begin == 0, [](uint4 w) { return !has_zero_half(w); });
      if (begin == 0) {
        mark_first(layer, what, 10);
        sync_workers();  // the vector before this one is read
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int packet = begin + i * kTokenWorkers + thread;
        if (packet < packets) *reinterpret_cast<uint4*>(smem + p.x_at + packet * 16) = v[i];
      }
    }
    sync_workers();
    rstd = 1.f;
  }
  // The residual stream, of which whoever added to it publishes x·(1 + norm) and x².
  __device__ __forceinline__ void stage_normed(int layer, int what, const uint8_t* from, float eps) {
    constexpr int kAtOnce = 8;
    const int packets = p.width / 4;
    float squares = 0.f;
#pragma unroll 1
    for (int begin = 0; begin < packets; begin += kAtOnce * kTokenWorkers) {
      uint4 v[kAtOnce];
      fetch(v, from + begin * 16, packets - begin, begin == 0, [](uint4 w) { return w.y != 0 && w.w != 0; });
      if (begin == 0) {
        mark_first(layer, what, 10);
        sync_workers();
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int packet = begin + i * kTokenWorkers + thread;
        if (packet >= packets) break;
        squares += __uint_as_float(v[i].y) + __uint_as_float(v[i].w);
        *reinterpret_cast<uint2*>(smem + p.x_at + packet * 8) = make_uint2(v[i].x, v[i].z);
      }
    }
    norm_factor(squares, eps);
  }
  // The embedding, normalised here; every block keeps its part of the residual stream.
  __device__ __forceinline__ void stage_embedding(const float* norm) {
    const __nv_bfloat16* from = embedding();
    float squares = 0.f;
    for (int pair = thread; pair < p.width / 2; pair += kTokenWorkers) {
      const uint32_t w = embedded(from, pair);
      const float2 v = unpack2<__nv_bfloat16>(w);
      squares += v.x * v.x + v.y * v.y;
      *reinterpret_cast<uint32_t*>(smem + p.x_at + pair * 4) = pack2<__nv_bfloat16>(
          v.x * (1.f + __ldg(norm + 2 * pair)), v.y * (1.f + __ldg(norm + 2 * pair + 1)));
    }
    const TokenProduct& q = p.product[kTokenOut];
    for (int i = thread, unit; (unit = first_unit(q) + i * blocks) < q.units; i += kTokenWorkers)
      shared().residual[i] = embedded(from, unit);
    norm_factor(squares, p.eps);
  }
  __device__ __forceinline__ uint32_t embedded(const __nv_bfloat16* from, int pair) const {
    if (from == nullptr) return 0x7fff7fffu;
    const uint32_t w = __ldcg(reinterpret_cast<const uint32_t*>(from) + pair);
    const float2 v = unpack2<__nv_bfloat16>(w);
    return p.scale == 1.f ? w : pack2<__nv_bfloat16>(v.x * p.scale, v.y * p.scale);
  }
  __device__ __forceinline__ const __nv_bfloat16* embedding() const {
    if (p.ids == nullptr) return p.x;
    const int id = __ldcg(p.ids);
    return id < 0 || id >= p.vocabulary ? nullptr : p.x + int64_t(id) * p.width;  // null: NaN
  }
  __device__ __forceinline__ void stage_input(int what, int layer, const TokenLayer& l, int set) {
    if (what == kTokenOut)
      stage_plain(layer, what, at(set, p.at.attended), p.heads * D);
    else if (what == kTokenDown)
      stage_plain(layer, what, at(set, p.at.hidden), p.mlp * max(p.used, 1));
    else if (what == kTokenQkv && layer == 0)
      stage_embedding(l.norm1);
    else if (what == kTokenQkv || what == kTokenHead)
      stage_normed(layer, what, at(set, p.at.before), what == kTokenHead ? p.head_eps : p.eps);
    else if (what == kTokenRouter || !has_experts())  // the router's input is that of gate_up
      stage_normed(layer, what, at(set, p.at.between), p.eps);
    if (what == kTokenQkv) named_barrier_arrive(kTokenInput, kTokenWorkers + 32);
    if (what == kTokenGateUp) named_barrier_sync(kTokenCleared, kTokenWorkers + 32);
  }

  // ---- products ----
  // This warp's unit of a product: its stages times the vector. A stage's second half is read before its
  // first is multiplied.
  __device__ __forceinline__ float2 multiply(const TokenProduct& q, bool experts) {
    using Stage = Bf16Stage;
    RowPair sum;
    uint32_t from = x();
#pragma unroll 1
    for (int c = 0; c < q.stages; ++c) {
      const uint32_t w = stage();
      if (!experts) {
        const int columns = c + 1 < q.stages ? kTokenStageColumns : q.last_columns;
        const Stage low(w, q.second, from, columns);
        const Stage high(w + Stage::kColumns * 2, q.second, from + Stage::kColumns * 2,
                         columns - Stage::kColumns);
        release();
        low.multiply(sum), high.multiply(sum);
        from += kTokenStageColumns * 2;
      } else {
        const int count = min(q.segments, p.used - c * q.segments);
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
#pragma unroll 1
          for (int column = 0; column < q.columns; column += Stage::kColumns)
            Stage(w + 2 * (i * q.row_bytes + column), q.second, from + column * 2, q.columns - column)
                .multiply(sum);
          from += q.row_bytes;
        }
        release();
      }
    }
    return sum.total();
  }

  // Every lane has the two sums of the block's `own`-th unit; one writes. `norm`: of the columns that it adds
  // to.
  __device__ __forceinline__ void finish(int what, int set, int unit, int own, float2 sum, float2 norm,
                                         const TokenLayer& l) const {
    sum.x *= rstd, sum.y *= rstd;
    if (what == kTokenGateUp) {
      float v = point_function(p.function, sum.x) * sum.y;
      if (has_experts()) v *= __shfl_sync(0xffffffffu, share, unit / p.mlp);
      if (lane == 0) post2(at(set, p.at.hidden) + unit * 2, uint16_t(pack_nonzero(v, v)));
      return;
    }
    if (lane != 0) return;
    if (what == kTokenHead) {
      *reinterpret_cast<float2*>(p.logits + 2 * int64_t(unit)) = sum;
    } else if (what == kTokenRouter) {
      post8(at(set, p.at.router) + unit * 8, never_zero(sum.x), never_zero(sum.y));
    } else if (what == kTokenQkv) {
      if (l.qkv_bias != nullptr)
        sum.x += __ldg(l.qkv_bias + 2 * unit), sum.y += __ldg(l.qkv_bias + 2 * unit + 1);
      post4(at(set, p.at.qkv) + unit * 4, pack_nonzero(sum.x, sum.y));
    } else {
      uint32_t& residual = shared().residual[own];
      const float2 before = unpack2<__nv_bfloat16>(residual);
      residual = pack2<__nv_bfloat16>(before.x + sum.x, before.y + sum.y);
      const float2 x = unpack2<__nv_bfloat16>(residual);
      // what `down` adds to is the next layer's, so it goes to that layer's set
      uint8_t* to = what == kTokenOut ? at(set, p.at.between) : at(set ^ 1, p.at.before);
      post8(to + unit * 8, pack2<__nv_bfloat16>(x.x * (1.f + norm.x), x.y * (1.f + norm.y)),
            never_zero(x.x * x.x + x.y * x.y));
    }
  }

  __device__ __forceinline__ void run_product(int what, int layer, const TokenLayer& l, int set) {
    const TokenProduct& q = p.product[what];
    mark_first(layer, what, 8);
    stage_input(what, layer, l, set);
    if (what == kTokenGateUp && has_experts()) choose(set, chosen, share);
    mark_first(layer, what, 11);
    const float* norm = what == kTokenOut           ? l.norm2
                        : what != kTokenDown        ? nullptr
                        : layer + 1 < p.layer_count ? layer_at(layer + 1).norm1
                                                    : p.norm;
    int own = (warp - q.turn) & (kTokenWarps - 1);
#pragma unroll 1
    for (int unit = first_unit(q) + own * blocks; unit < q.units;
         unit += kTokenWarps * blocks, own += kTokenWarps) {
      float2 columns = make_float2(0.f, 0.f);
      if (norm != nullptr) columns = __ldg(reinterpret_cast<const float2*>(norm) + unit);
      finish(what, set, unit, own, multiply(q, what == kTokenDown && has_experts()), columns, l);
    }
    mark(layer, what, warp);
  }

  __device__ __forceinline__ void consume() {
    pdl_wait();
    position = __ldcg(p.position);
    const int began = generation();
    if (warp == 0) {  // seen by all behind the barriers of the first vector
      shared().turn[lane] =
          lane < D / 4 ? __ldg(reinterpret_cast<const float4*>(p.rope + int64_t(position) * D) + lane)
                       : make_float4(1.f, 0.f, 1.f, 0.f);
      if (lane < 2) shared().ranges[lane] = range<D>(lane != 0);
    }
    int set = began & 1;
#pragma unroll 1
    for (int layer = 0; layer <= p.layer_count; ++layer, set ^= 1) {
      const TokenLayer& l = layer_at(min(layer, p.layer_count - 1));
      const bool end = layer == p.layer_count;
#pragma unroll 1
      for (int what = end ? kTokenHead : kTokenQkv; what <= (end ? kTokenHead : kTokenDown); ++what) {
        if (what == kTokenRouter && !has_experts()) continue;
        run_product(what, layer, l, set);
        if (what == kTokenQkv) {
          mark_first(layer, kTokenWorks, 8);
          const TokenRange r = shared().ranges[l.windowed ? 1 : 0];
          TokenAttention<D>{*this, l, layer, set, kv_head, split}.run(r);
          TokenAttention<D>::merge(*this, set, r.active);
          mark(layer, kTokenWorks, warp);
        }
      }
    }
    if (block == 0 && thread == 0) post4(p.exchange + p.at.generation, uint32_t(began + p.layer_count));
    pdl_launch();
  }
};

template <int D>
__device__ __forceinline__ void token_stack(const TokenStackParams& p) {
  extern __shared__ __align__(1024) uint8_t smem[];
  TokenStack<D> stack{
      {p, smem, int(threadIdx.x), int(warp_id()), int(lane_id()), int(blockIdx.x), int(gridDim.x)},
      int(blockIdx.x) % p.kv_heads,
      int(blockIdx.x) / p.kv_heads};
  TokenShared& shared = stack.shared();
  for (int i = threadIdx.x; i < kTokenWarps * kTokenMostSlots; i += kTokenThreads) {
    mbarrier_init(&shared.full[0][0] + i, 1);
    mbarrier_init(&shared.empty[0][0] + i, 1);
  }
  fence_barrier_init();
  constexpr int kPacks = sizeof(TokenLayer) / 16;
  for (int i = threadIdx.x; i < p.layer_count * kPacks; i += kTokenThreads)
    reinterpret_cast<uint4*>(smem + p.layers_at)[i] = __ldg(reinterpret_cast<const uint4*>(p.layers) + i);
  __syncthreads();
  if (stack.warp < kTokenWarps)
    stack.consume();
  else
    stack.produce();
}

}  // namespace

#define FLASHRT_TOKEN_STACK(D)                                      \
  extern "C" __global__ void __launch_bounds__(kTokenThreads, 1)    \
      token_stack_##D(const __grid_constant__ TokenStackParams p) { \
    token_stack<D>(p);                                              \
  }
FLASHRT_TOKEN_STACK(64)
FLASHRT_TOKEN_STACK(128)

}  // namespace flashrt
