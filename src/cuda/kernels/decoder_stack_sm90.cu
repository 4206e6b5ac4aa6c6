// A whole stack of decoder layers in one launch, for 8 … 64 rows: one block per multiprocessor, weights
// streaming through a shared-memory ring ahead of every dependency, activations handed from block to block
// through L2.
//
// A layer is five products and two merges:
//   - qkv: 80 blocks, 32 rows of the matrix each, all of k; rotation;
//   - attention: 8 heads times chunks of 64 keys; keys of the prefix come through the weight ring;
//   - merge: 16 columns of a head per block, over all chunks;
//   - out: 64 columns of the residual stream, an eighth of k per block; then each adds up an eighth of
//     the rows of its tile;
//   - gate-up: 32 hidden columns per block, all of k; activation times up;
//   - down: like out.
//
// Tokens are the M of every product and come straight from L2 into the registers of wgmma's A operand: what
// is handed on lies in packets of 16 bytes, one per thread and 16 columns, as its writers' sums lie in their
// registers (PTX ISA, wgmma fragments). So a product begins with the first packets, and nothing is staged.
// The two warpgroups share k and add up through shared memory.
//
// Readers wait for the data itself (rounds.cuh). Buffers alternate by layer: who writes one again depends,
// through the sums between, on everyone who has read it.
//
// All sums have a fixed order: results do not vary from run to run.
#include "cuda/kernels/common/activation.cuh"
#include "cuda/kernels/common/decoder_stack_weights.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/rounds.cuh"
#include "cuda/kernels/common/sum_trade.cuh"
#include "cuda/kernels/common/wgmma.cuh"

namespace flashrt {
namespace {

enum NamedBarrier { kStatistics = kTradeBarrier + 1, kSquares };
constexpr int kTiles = kStackWidth / 64;
constexpr int kHeadSteps = kStackHeadDim / 16;  // of 16 columns
constexpr int kRowBytes = kStackHeadDim * 2;    // of this step's keys and values
constexpr int kPacket = 16;

struct Shared {
  Mbarrier full[kMaxStages], empty[kMaxStages];
  float rstd[64];
  float squares[4][8];
  float columns[2][4][64];  // of the tile, by parity of the layer (see Vector)
  const float* biases[kStackLayers][2];
};
static_assert(sizeof(Shared) <= kStackRestBytes);

// One block's part of the stack, for up to 16·Parts rows. `thread` counts within the two computing
// warpgroups. Of a block of 16 tokens (`part`), a lane holds the rows lane/4 and lane/4 + 8.
template <int Parts>
struct Stack : StackRole, StackRing, SumTrade {
  static constexpr int kStep = Parts * 32 * kPacket;  // bytes of a step of 16 columns
  const DecoderStackParams& p;
  Shared* shared;
  int warp, lane;
  int position, chunks;
  int layer = 0;
  uint32_t rounds = 0;  // this kernel's first

  __device__ bool has_chunk() const { return chunk() < chunks; }
  __device__ uint8_t* at(size_t offset) const { return p.exchange + offset; }

  __device__ void mark(int what) const {
#ifdef FLASHRT_STACK_TRACE
    if (p.trace != nullptr && lane == 0 && (thread == 0 || thread == kGroup))
      p.trace[(static_cast<size_t>(block) * p.layer_count + layer) * 64 + what + (thread != 0 ? 32 : 0)] =
          clock64();
#endif
  }

  __device__ int part() const { return warp & 3; }
  __device__ int first_token() const { return part() * 16 + lane / 4; }
  __device__ bool live() const { return first_token() < p.rows; }
  __device__ bool alive() const { return part() * 16 < p.rows; }  // any lane
  // What this warp multiplies is nobody's.
  __device__ bool idle() const { return Parts == 1 && part() != 0; }
  __device__ uint32_t round_of(int l) const { return (rounds + (l >> 1)) & 1; }
  __device__ uint32_t round() const { return round_of(layer); }

  // -- packets: [step of 16 columns][part][lane] --
  __device__ uint8_t* packet(size_t array, int step) const {
    return at(array) + step * kStep + (part() * 32 + lane) * kPacket;
  }
  // Lanes without a row read what others do, and write nothing.
  __device__ int own_lane() const { return live() ? lane : lane & 3; }
  __device__ const uint8_t* readable(size_t array, int step) const {
    return at(array) + step * kStep + ((alive() ? part() * 32 : 0) + own_lane()) * kPacket;
  }

  // ---- packets into registers ----
  // Own packets of `Count` steps: asked for once the first one is there (128 blocks that ask for everything
  // again and again would keep L2 busy with nothing else) …
  template <int Count>
  __device__ __forceinline__ void ask(uint4 (&v)[Count], const uint8_t* from) const {
    if (Parts == 1 || Count < 32) wait_for(from - own_lane() * kPacket, idle());
#pragma unroll
    for (int i = 0; i < Count; ++i) v[i] = peek16(from + i * kStep);
  }
  // One sector, for all lanes.
  __device__ __forceinline__ void wait_for(const uint8_t* packet_at, bool regardless = false) const {
    Patience patience;
    while (true) {
      Current c{round()};
      c.see(peek16(packet_at).w);
      if (c.in_all_lanes(regardless)) break;
      patience.spend();
    }
  }
  // … and settled: `Some` of them, from step First on, are all there. Halves: two stores wrote a packet.
  template <int First, int Some, bool Halves, int Count>
  __device__ __forceinline__ void settle(uint4 (&v)[Count], const uint8_t* from) const {
    Patience patience;
    while (true) {
      Current c{round()};
#pragma unroll
      for (int i = First; i < First + Some; ++i) {
        c.see(v[i].w);
        if (Halves) c.see(v[i].y);
      }
      if (c.in_all_lanes(idle())) break;
      patience.spend();
#pragma unroll
      for (int i = First; i < First + Some; ++i) v[i] = peek16(from + i * kStep);
    }
#pragma unroll
    for (int i = First; i < First + Some; ++i) {
      v[i].w = unstamped(v[i].w);
      if (Halves) v[i].y = unstamped(v[i].y);
      asm volatile("" : "+r"(v[i].y), "+r"(v[i].w)::"memory");  // before the products, not between them
    }
  }

  // ---- products ----
  // d[tokens, N] += packets · rows of the ring, over this warpgroup's half of k: `Count` steps, the first one
  // at `from`. A stage holds boxes of 64 columns of N rows.
  template <int N, bool Halves = false, int Count>
  __device__ __forceinline__ void multiply(float (&d)[N / 2], uint4 (&v)[Count], const uint8_t* from,
                                           int marks) {
    mark(marks);
    product_part<N, 0, Halves>(d, v, from);
    mark(marks + 1);
    if constexpr (Count > 8) product_part<N, 8, Halves>(d, v, from);
    if constexpr (Count > 16)
      product_part<N, 16, Halves>(d, v, from), product_part<N, 24, Halves>(d, v, from);
    mark(marks + 2);
    wgmma_wait<0>();
    wgmma_pin(d);
    release(2 * Count / (kStackStageBytes / (N * 32)));
  }
  template <int N, int First, bool Halves, int Count>
  __device__ __forceinline__ void product_part(float (&d)[N / 2], uint4 (&v)[Count], const uint8_t* from) {
    constexpr int kSteps = kStackStageBytes / (N * 32), kStages = Count / kSteps, kBox = N * 128 >> 4;
    settle<First, 8, Halves>(v, from);
    const int s = group * kStages + First / kSteps;
    if (First % kSteps == 0) warp_wait(&shared->full[slot_of(s)], phase_of(s));
    const uint64_t b = further(descriptor_k_major(smem_u32(stages)),
                               uniform(slot_of(s)) * (kStackStageBytes >> 4) + First % kSteps / 4 * kBox);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint4& u = v[First + i];
      const uint32_t a[4] = {u.x, u.y, u.z, u.w};
      wgmma_rs<N>(d, a, further(b, (i >> 2) * kBox + (i & 3) * kDescriptorNextK), 1);
    }
    wgmma_commit();
  }

  // ---- row statistics (two warps of their own): rstd of every row ----
  __device__ __forceinline__ void watch() {
    const int row = thread - kWorkers - 32, first = row - lane;
    if (first >= p.rows) return;
    if (first == 0) bring_biases(0), bring_columns(0);
    pdl_wait();
    rounds = __ldcg(reinterpret_cast<const uint32_t*>(at(p.at.rounds))) + 1;
#pragma unroll 1
    for (layer = 0; layer < p.layer_count; ++layer) {
      if (has_qkv()) statistics(row, p.at.squares[0][layer & 1]);
      // The next layer's vectors come along.
      const bool brings = first == 0 && layer + 1 < p.layer_count;
      float4 columns[2];
      if (brings) load_columns(columns, lane, layer + 1), bring_biases(layer + 1);
      statistics(row, p.at.squares[1][layer & 1], [&] {
        if (brings) store_columns(columns, lane, layer + 1);
      });
    }
  }
  // A step's vectors were last read a step ago, 35 MB of weights a layer before this one: into L2, or what
  // needs them would wait for memory.
  __device__ __forceinline__ static void bring(const float* from) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
  }
  __device__ __forceinline__ void bring_biases(int of) const {
    const float *qkv = shared->biases[of][0], *gate_up = shared->biases[of][1];
    if (gate_up != nullptr && lane < 8)
      bring(gate_up + (lane >> 2) * kStackMlp + block * 32 + (lane & 3) * 8);
    if (qkv != nullptr && has_qkv() && lane >= 8 && lane < 12)
      bring(qkv + qkv_head() * kStackHeadDim + (lane >> 1 & 1) * (kStackHeadDim / 2) + (qkv_tile() & 7) * 16 +
            (lane & 1) * 8);
  }
  __device__ __forceinline__ void bring_columns(int of) const {
    const StackVectors &v = p.vectors[of], &next = p.vectors[min(of + 1, p.layer_count - 1)];
#pragma unroll
    for (const float* from : {v.scale1, v.gate1, v.scale2, v.gate2, next.scale1})
      if (from != nullptr && lane < 8) bring(from + tile() * 64 + lane * 8);
  }
  template <class F>
  __device__ __forceinline__ void statistics(int row, size_t squares, F&& meanwhile) {
    uint4 v[4];
    const int readable = row < p.rows ? row : row & ~31;
    const uint8_t* from = at(squares) + readable * 64;
    Patience patience;
    while (true) {
      Current c{round()};
      c.see(peek16(at(squares) + (row & ~31) * 64).x);
      if (c.in_all_lanes()) break;
      patience.spend();
    }
    while (true) {
      Current c{round()};
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = peek16(from + i * 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) c.see_all(v[i]);
      if (c.in_all_lanes()) break;
      patience.spend();
    }
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 u = unstamped4(v[i]);
      sum += (__uint_as_float(u.x) + __uint_as_float(u.y)) + (__uint_as_float(u.z) + __uint_as_float(u.w));
    }
    shared->rstd[row] = rsqrt_approx(fmaf(sum, 1.f / kStackWidth, p.eps));
    meanwhile();
    __syncwarp();
    named_barrier_arrive(kStatistics, statistics_threads());
  }
  __device__ __forceinline__ void statistics(int row, size_t squares) {
    statistics(row, squares, [] {});
  }
  __device__ int statistics_threads() const { return kWorkers + ((p.rows + 31) & ~31); }

  // ---- what becomes of the products: blocks of 8 columns 2i and 2i + 1 are a pair ----
  static __device__ __forceinline__ uint32_t word(float a, float b) { return pack2<__nv_bfloat16>(a, b); }
  // Sums of two neighbouring blocks as one packet.
  __device__ __forceinline__ uint4 packed(const float* d, uint32_t round_of_it) const {
    return stamped(make_uint4(word(d[0], d[1]), word(d[2], d[3]), word(d[4], d[5]), word(d[6], d[7])),
                   round_of_it);
  }
  static __device__ __forceinline__ float2 load2(const float* from, float otherwise) {
    return from != nullptr ? __ldg(reinterpret_cast<const float2*>(from)) : make_float2(otherwise, otherwise);
  }
  __device__ int quad() const { return lane % 4 * 2; }

  __device__ __forceinline__ void qkv(const float* bias) {
    const int parity = layer & 1, h = qkv_head(), column = (qkv_tile() & 7) * 16 + group * 8 + quad();
    uint4 v[32];
    const uint8_t* from = readable(p.at.normed[0][parity], group * 32);
    ask(v, from);
    if (bias != nullptr) bias += h * kStackHeadDim + column;
    const float2 lo = load2(bias, 0.f), hi = load2(bias != nullptr ? bias + kStackHeadDim / 2 : bias, 0.f);
    float4 angle[2];  // (cos, sin) of two columns
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = first_token() + 8 * i;
      angle[i] = h <= kStackHeads && token < p.rows
                     ? __ldg(reinterpret_cast<const float4*>(
                           p.rope + static_cast<size_t>(position + token) * (kStackHeadDim / 2) + column))
                     : make_float4(1.f, 0.f, 1.f, 0.f);
    }
    float own[8];
    {
      float d[16] = {};
      multiply<32>(d, v, from, 16);
      mark(1);
      trade<32>(d, own);
    }
    mark(2);
    named_barrier_sync(kStatistics, statistics_threads());
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float r = shared->rstd[first_token() + 8 * i];
      const float l0 = fmaf(own[2 * i], r, lo.x), l1 = fmaf(own[2 * i + 1], r, lo.y);
      const float h0 = fmaf(own[4 + 2 * i], r, hi.x), h1 = fmaf(own[5 + 2 * i], r, hi.y);
      const float4 a = angle[i];
      own[2 * i] = l0 * a.x - h0 * a.y, own[2 * i + 1] = l1 * a.z - h1 * a.w;
      own[4 + 2 * i] = h0 * a.x + l0 * a.y, own[5 + 2 * i] = h1 * a.z + l1 * a.w;
    }
    if (h < kStackHeads) {
      uint8_t* to = packet(p.at.query[parity], h * kHeadSteps + (qkv_tile() & 7)) + group * 8;
      if (!live()) return;
      post8(to, word(own[0], own[1]), stamped(word(own[2], own[3]), round()));
      post8(to + kHeadSteps / 2 * kStep, word(own[4], own[5]), stamped(word(own[6], own[7]), round()));
    } else {
      uint8_t* to = at(h == kStackHeads ? p.at.key[parity] : p.at.value[parity]) + column * 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = first_token() + 8 * i;
        if (token >= p.rows) continue;
        post4(to + token * kRowBytes, stamped(word(own[2 * i], own[2 * i + 1]), round()));
        post4(to + token * kRowBytes + kStackHeadDim, stamped(word(own[4 + 2 * i], own[5 + 2 * i]), round()));
      }
    }
  }

  __device__ __forceinline__ void gate_up(const float* bias) {
    const int parity = layer & 1;
    uint4 v[32];
    const uint8_t* from = readable(p.at.normed[1][parity], group * 32);
    ask(v, from);
    if (bias != nullptr) bias += block * 32 + group * 16 + quad();
    float2 gate[2], up[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      gate[i] = load2(bias != nullptr ? bias + i * 8 : bias, 0.f);
      up[i] = load2(bias != nullptr ? bias + kStackMlp + i * 8 : bias, 0.f);
    }
    float own[16];
    {
      float d[32] = {};
      multiply<64>(d, v, from, 25);
      mark(7);
      trade<64>(d, own);
    }
    mark(8);
    named_barrier_sync(kStatistics, statistics_threads());
    float y[8];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float r = shared->rstd[first_token() + (j & 2) * 4];
        const float g = fmaf(own[8 * i + j], r, j & 1 ? gate[i].y : gate[i].x);
        y[4 * i + j] = gate_activation(g, !p.silu) * fmaf(own[8 * i + 4 + j], r, j & 1 ? up[i].y : up[i].x);
      }
    }
    if (live()) post16(packet(p.at.hidden[parity], block * 2 + group), packed(y, round()));
  }

  // A slice of k of out or down, to be added up: packets, [split][4 steps][part][lane].
  __device__ __forceinline__ uint8_t* partial(size_t which, int split_of) const {
    return at(which) + (tile() * kStackSplits + split_of) * 4 * kStep;
  }
  template <int Count>
  __device__ __forceinline__ void slice(size_t input, size_t which, int what) {
    uint4 v[Count];
    const uint8_t* from = readable(input, (split() * 2 + group) * Count);
    ask(v, from);
    float own[16];
    {
      float d[32] = {};
      multiply<64>(d, v, from, what == 3 ? 22 : 28);
      mark(what + 1);
      trade<64>(d, own);
    }
    mark(what + 2);
    if (!live()) return;
    uint8_t* to = partial(which, split()) + group * 2 * kStep + (part() * 32 + lane) * kPacket;
#pragma unroll
    for (int i = 0; i < 2; ++i) post16(to + i * kStep, packed(own + 8 * i, round()));
  }

  // ---- attention over one chunk of 64 keys ----
  // Keys and values of this step replace what the copy engine brought beyond the prefix; zeros what is beyond
  // them. A warp has every eighth row.
  __device__ __forceinline__ void patch_chunk(int parity) {
    const int begin = max(position - chunk() * 64, 0), shift = position - chunk() * 64;
    if (begin >= 64) return;
    const auto wanted = [&](int i) { return warp + 8 * i >= begin && warp + 8 * i - shift < p.rows; };
    const auto load = [&](uint4(&v)[8], const uint8_t* from) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (wanted(i)) v[i] = peek16(from + (warp + 8 * i - shift) * kRowBytes + lane * 16);
    };
    uint4 k[8] = {}, v[8] = {};
    Patience patience;
    while (true) {
      load(k, at(p.at.key[parity])), load(v, at(p.at.value[parity]));
      Current c{round()};
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (wanted(i)) c.see_all(k[i]), c.see_all(v[i]);
      if (c.in_all_lanes()) break;
      patience.spend();
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) warp_wait(&shared->full[slot_of(i)], phase_of(i));
    uint8_t* keys = stages + slot_of(lane >> 4) * kStackStageBytes + (lane >> 3 & 1) * 8192;
    uint8_t* values = stages + slot_of(2 + (lane >> 4)) * kStackStageBytes + (lane >> 3 & 1) * 8192;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = warp + 8 * i, to = row * 128 + (((lane ^ row) & 7) << 4);
      if (row < begin) continue;
      *reinterpret_cast<uint4*>(keys + to) = unstamped4(k[i]);
      *reinterpret_cast<uint4*>(values + to) = unstamped4(v[i]);
    }
    fence_proxy_async();
    meet();
  }

  // The warpgroups share the head's columns: in the scores as k, in the sums of values as their columns. In
  // between, each has one row of two.
  __device__ __forceinline__ void attend() {
    const int parity = layer & 1;
    uint4 v[8];
    const uint8_t* from = readable(p.at.query[parity], head() * kHeadSteps + group * 8);
    ask(v, from);
    patch_chunk(parity);
    float s[16];
    {
      float d[32] = {};
      multiply<64, true>(d, v, from, 19);
      mark(13);
      trade_rows(d, s);
    }
    const int token = first_token() + 8 * group;
    const int end =
        (token < p.lead_rows ? position + p.lead_rows : position + p.rows) - chunk() * 64 - quad();
    float top = -1e30f, sum = 0.f;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      s[i] = (i >> 1) * 8 + (i & 1) < end ? s[i] * p.score_scale : -1e30f;
      top = fmaxf(top, s[i]);
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      s[i] = s[i] > -1e30f ? exp2_fast(s[i] - top) : 0.f;
      sum += s[i];
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float scale = sum > 0.f ? __fdividef(1.f, sum) : 0.f;
    uint32_t w[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) w[i] = pack2<__nv_bfloat16>(s[2 * i] * scale, s[2 * i + 1] * scale);
    uint4* to = reinterpret_cast<uint4*>(box_of(group));
    const uint4* other = reinterpret_cast<const uint4*>(box_of(group ^ 1));
    to[0] = make_uint4(w[0], w[1], w[2], w[3]), to[kGroup] = make_uint4(w[4], w[5], w[6], w[7]);
    traded();
    const uint4 u0 = other[0], u1 = other[kGroup];
    const uint32_t u[8] = {u0.x, u0.y, u0.z, u0.w, u1.x, u1.y, u1.z, u1.w};
    const bool second = group == 1;
    uint32_t a[4][4];
#pragma unroll
    for (int i = 0; i < 8; ++i)
      a[i / 2][i % 2 * 2] = second ? u[i] : w[i], a[i / 2][i % 2 * 2 + 1] = second ? w[i] : u[i];

    if (lane % 4 == 0 && live())
      post4(extent(), stamped(__float_as_uint(sum > 0.f ? top + __log2f(sum) : -1e30f), round()));
    const int values = slot_of(group);
    warp_wait(&shared->full[values], phase_of(group));
    const uint64_t b =
        further(descriptor_mn_major(smem_u32(stages), 8192), uniform(values) * (kStackStageBytes >> 4));
    float o[64] = {};
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) wgmma_rs<128, true>(o, a[k], further(b, k * kDescriptorNextKTransposed), 1);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(o);
    release(2);
    if (!live()) return;
      // [head][step][chunk][part][lane]
#pragma unroll
    for (int i = 0; i < 8; ++i)
      post16(sums_of_values() + i * kStackChunks * kStep, packed(o + 8 * i, round()));
  }
  __device__ uint8_t* sums_of_values() const {
    return packet(p.at.weighted[layer & 1], (head() * kHeadSteps + group * 8) * kStackChunks + chunk());
  }
  __device__ uint8_t* extent() const {
    return at(p.at.extent[layer & 1]) +
           (((head() * kStackChunks + chunk()) * Parts + part()) * 8 + lane / 4) * 8 + group * 4;
  }
  // A block without keys keeps up with the rounds: the next kernel may have more of them.
  __device__ __forceinline__ void pass() {
    if (!live()) return;
    if (lane % 4 == 0) post4(extent(), round());
#pragma unroll
    for (int i = 0; i < 8; ++i)
      post16(sums_of_values() + i * kStackChunks * kStep, make_uint4(0, 0, 0, round()));
  }

  // ---- merge: 16 columns of a head; two threads per packet, every second chunk each ----
  __device__ __forceinline__ void merge(int parity) {
    constexpr int kCount = kStackChunks / 2;
    const int odd = thread & 1, first = (warp >> 1) * 16 + (warp & 1) * 4, row = first + (lane >> 3);
    if (first >= p.rows) return;
    // Packet and row of this thread; one without a row reads with another one.
    const int index = warp * 16 + (row < p.rows ? lane >> 1 : lane >> 1 & 3);
    const int count = (chunks - odd + 1) >> 1, unit = head() * kHeadSteps + chunk();
    const uint8_t* sums = at(p.at.weighted[parity]) + (unit * kStackChunks + odd) * kStep + index * kPacket;
    const uint8_t* extent =
        at(p.at.extent[parity]) + (head() * kStackChunks + odd) * Parts * 64 + (index >> 2) * 8;
    uint4 v[kCount];
    uint2 e[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (i < count) v[i] = peek16(sums + i * 2 * kStep), e[i] = peek8(extent + i * Parts * 128);
    Patience patience;
    while (true) {
      Current c{round()};
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i < count) c.see(v[i].w), c.see(e[i].x), c.see(e[i].y);
      if (c.in_all_lanes()) break;
      patience.spend();
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i < count) v[i] = peek16(sums + i * 2 * kStep), e[i] = peek8(extent + i * Parts * 128);
    }
    float top[2] = {-3e38f, -3e38f}, total[2] = {}, out[8] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (i < count) {
        e[i].x = unstamped(e[i].x), e[i].y = unstamped(e[i].y), v[i].w = unstamped(v[i].w);
        top[0] = fmaxf(top[0], __uint_as_float(e[i].x)), top[1] = fmaxf(top[1], __uint_as_float(e[i].y));
      }
#pragma unroll
    for (int r = 0; r < 2; ++r) top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) {
        const float w[2] = {exp2_fast(__uint_as_float(e[i].x) - top[0]),
                            exp2_fast(__uint_as_float(e[i].y) - top[1])};
        total[0] += w[0], total[1] += w[1];
        const uint32_t u[4] = {v[i].x, v[i].y, v[i].z, v[i].w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float2 f = unpack2<__nv_bfloat16>(u[c]);
          out[2 * c] = fmaf(w[c & 1], f.x, out[2 * c]), out[2 * c + 1] = fmaf(w[c & 1], f.y, out[2 * c + 1]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
      total[r] = __fdividef(1.f, total[r]);
    }
#pragma unroll
    for (int c = 0; c < 8; ++c)
      out[c] = (out[c] + __shfl_xor_sync(0xffffffffu, out[c], 1)) * total[c >> 1 & 1];
    if (odd == 0 && row < p.rows)
      post16(at(p.at.attended[parity]) + unit * kStep + index * kPacket, packed(out, round()));
  }

  // ---- the residual stream (second warpgroup): of the 16 columns 64·tile + 16·part, packets 16·split …
  // ---- Two threads have each, and add up half of the slices of k.
  struct Residual {
    float x[8];  // two rows, as columns of a packet
  };
  enum Vector { kGate1, kScale2, kGate2, kNextScale1 };  // its columns of a layer's vectors
  __device__ int own_row() const { return (split() >> 1) * 16 + (split() & 1) * 4 + (lane & 15) / 4; }
  __device__ int own_packet() const { return (split() * 16 + (lane & 15)) * kPacket; }
  __device__ int own_column() const { return part() * 16 + quad(); }  // of the tile
  __device__ __forceinline__ float4 own_of(Vector which) const {
    const float* v = shared->columns[layer & 1][which] + own_column();
    const float2 a = *reinterpret_cast<const float2*>(v), b = *reinterpret_cast<const float2*>(v + 8);
    return make_float4(a.x, a.y, b.x, b.y);
  }
  // Two pieces of them per lane.
  __device__ __forceinline__ void load_columns(float4 (&to)[2], int l, int of) const {
    const StackVectors &v = p.vectors[of], &next = p.vectors[min(of + 1, p.layer_count - 1)];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool second = l >= 16;
      const float* from = i == 0 ? (second ? v.scale2 : v.gate1) : second ? next.scale1 : v.gate2;
      const float none = second ? 0.f : 1.f;
      to[i] = from != nullptr ? __ldg(reinterpret_cast<const float4*>(from + tile() * 64) + (l & 15))
                              : make_float4(none, none, none, none);
    }
  }
  __device__ __forceinline__ void store_columns(const float4 (&from)[2], int l, int of) const {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      *reinterpret_cast<float4*>(&shared->columns[of & 1][2 * i + (l >= 16)][(l & 15) * 4]) = from[i];
  }

  __device__ __forceinline__ void publish(const Residual& r, int norm, int of, float4 s) {
    const int parity = of & 1;
    if (own_row() - (lane & 15) / 4 >= p.rows) return;
    float y[8], squares[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float* x = r.x + 4 * h;
      y[2 * h] = fmaf(x[0], s.x, x[0]), y[2 * h + 1] = fmaf(x[1], s.y, x[1]);
      y[2 * h + 4] = fmaf(x[2], s.z, x[2]), y[2 * h + 5] = fmaf(x[3], s.w, x[3]);
      squares[h] = (x[0] * x[0] + x[1] * x[1]) + (x[2] * x[2] + x[3] * x[3]);
    }
    if (lane < 16 && own_row() < p.rows)
      post16(at(p.at.normed[norm][parity]) + (tile() * 4 + part()) * kStep + own_packet(),
             packed(y, round_of(of)));
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      squares[h] += __shfl_xor_sync(0xffffffffu, squares[h], 1);
      squares[h] += __shfl_xor_sync(0xffffffffu, squares[h], 2);
      if (lane % 4 == 0 && lane < 16) shared->squares[part()][h * 4 + lane / 4] = squares[h];
    }
    named_barrier_sync(kSquares, kGroup);
    const int row = (split() >> 1) * 16 + (split() & 1) * 4 + (lane & 3) + (lane & 4) * 2;
    if (part() == 0 && lane < 8 && row < p.rows)
      post4(at(p.at.squares[norm][parity]) + (row * kTiles + tile()) * 4,
            stamped(__float_as_uint((shared->squares[0][lane] + shared->squares[1][lane]) +
                                    (shared->squares[2][lane] + shared->squares[3][lane])),
                    round_of(of)));
  }

  __device__ __forceinline__ void add_up(Residual& r, size_t which, float4 g) {
    const bool mine = own_row() < p.rows;
    if (own_row() - (lane & 15) / 4 >= p.rows) return;
    const uint8_t* from = partial(which, (lane >> 4) * 4) + part() * kStep +
                          (split() * 16 + (mine ? lane & 15 : lane & 3)) * kPacket;
    constexpr int kCount = kStackSplits / 2;
    uint4 v[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = peek16(from + i * 4 * kStep);
    Patience patience;
    while (true) {
      Current c{round()};
#pragma unroll
      for (int i = 0; i < kCount; ++i) c.see(v[i].w);
      if (c.in_all_lanes()) break;
      patience.spend();
#pragma unroll
      for (int i = 0; i < kCount; ++i) v[i] = peek16(from + i * 4 * kStep);
    }
    float sum[8] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const uint32_t u[4] = {v[i].x, v[i].z, v[i].y, unstamped(v[i].w)};
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const float2 f = unpack2<__nv_bfloat16>(u[c]);
        sum[2 * c] += f.x, sum[2 * c + 1] += f.y;
      }
    }
    const float gate[4] = {g.x, g.y, g.z, g.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 16);
      if (own_row() + (i & 4) * 2 < p.rows) r.x[i] = round_bf16(fmaf(gate[i & 3], sum[i], r.x[i]));
    }
  }

  __device__ __forceinline__ void compute() {
    pdl_wait();
    position = uniform(__ldcg(p.position));
    chunks = (position + p.rows + 63) >> 6;
    rounds = uniform(__ldcg(reinterpret_cast<const int*>(at(p.at.rounds)))) + 1;
    const size_t own_x = static_cast<size_t>(own_row()) * kStackWidth + tile() * 64 + own_column();
    Residual r{};
    if (group == 1) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // [row half][block of columns]
        if (own_row() + (i >> 1) * 8 >= p.rows) continue;
        const uint32_t* x =
            reinterpret_cast<const uint32_t*>(p.x + own_x + (i >> 1) * 8 * kStackWidth + (i & 1) * 8);
        const float2 two = unpack2<__nv_bfloat16>(__ldcg(x));
        r.x[2 * i] = two.x, r.x[2 * i + 1] = two.y;
      }
      const float* scale = p.vectors[0].scale1;
      if (scale != nullptr) scale += tile() * 64 + own_column();
      const float2 a = load2(scale, 0.f), b = load2(scale != nullptr ? scale + 8 : scale, 0.f);
      publish(r, 0, 0, make_float4(a.x, a.y, b.x, b.y));
      if (part() == 0) {
        float4 columns[2];
        load_columns(columns, lane, 0), store_columns(columns, lane, 0);
      }
      named_barrier_sync(kSquares, kGroup);
    }
#pragma unroll 1
    for (layer = 0; layer < p.layer_count; ++layer) {
      const int parity = layer & 1;
      mark(0);
      if (has_qkv()) qkv(shared->biases[layer][0]);
      mark(12);
      if (has_chunk())
        attend();
      else
        pass();
      mark(14);
      merge(parity);
      mark(15);
      slice<8>(p.at.attended[parity], p.at.partial_out[parity], 3);
      if (group == 1) {
        add_up(r, p.at.partial_out[parity], own_of(kGate1));
        publish(r, 1, layer, own_of(kScale2));
      }
      meet();  // the first warpgroup does not ask before there is an answer
      mark(6);
      gate_up(shared->biases[layer][1]);
      mark(9);
      slice<16>(p.at.hidden[parity], p.at.partial_down[parity], 9);
      if (group == 1) {
        add_up(r, p.at.partial_down[parity], own_of(kGate2));
        if (layer + 1 < p.layer_count) publish(r, 0, layer + 1, own_of(kNextScale1));
      }
      meet();  // the first warpgroup does not ask before there is an answer
    }
    if (group == 1 && lane < 16) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (own_row() + (i >> 1) * 8 < p.rows)
          *reinterpret_cast<uint32_t*>(p.y + own_x + (i >> 1) * 8 * kStackWidth + (i & 1) * 8) =
              pack2<__nv_bfloat16>(r.x[2 * i], r.x[2 * i + 1]);
    }
    if (block == 0 && thread == 0)  // everyone has read it long ago
      *reinterpret_cast<uint32_t*>(at(p.at.rounds)) = rounds - 1 + p.layer_count / 2;
    pdl_launch();
  }
};

template <int Parts>
__device__ __forceinline__ void decoder_stack(const DecoderStackParams& p) {
  extern __shared__ __align__(1024) uint8_t smem[];
  uint8_t* box = smem + p.stages * kStackStageBytes;
  Shared* shared = reinterpret_cast<Shared*>(box + kStackBoxBytes);
  const int thread = static_cast<int>(threadIdx.x), warp = static_cast<int>(warp_id());
  Stack<Parts> stack{{static_cast<int>(blockIdx.x)},
                     {smem, shared->full, shared->empty, p.stages},
                     {box, thread, warp >> 2},
                     p,
                     shared,
                     warp,
                     static_cast<int>(lane_id())};
  if (threadIdx.x < p.stages) {
    mbarrier_init(&shared->full[threadIdx.x], 1);
    mbarrier_init(&shared->empty[threadIdx.x], kWorkers / 32);
  }
  fence_barrier_init();
  if (threadIdx.x < 64) shared->rstd[threadIdx.x] = 0.f;
  if (threadIdx.x < p.layer_count)
    shared->biases[threadIdx.x][0] = p.vectors[threadIdx.x].bias1,
    shared->biases[threadIdx.x][1] = p.vectors[threadIdx.x].bias2;
  __syncthreads();
  if (stack.warp < kWorkers / 32) {
    register_increase<232>();
    stack.compute();
    return;
  }
  register_decrease<40>();
  if (stack.warp > kWorkers / 32)
    stack.watch();
  else if (elect_one())
    stack_produce(p, stack, stack);
}

}  // namespace

#define FLASHRT_STACK(rows)                                                    \
  extern "C" __global__ void __launch_bounds__(kThreads, 1)                    \
      decoder_stack_rows##rows(const __grid_constant__ DecoderStackParams p) { \
    decoder_stack<rows / 16>(p);                                               \
  }
FLASHRT_STACK(16)
FLASHRT_STACK(64)

}  // namespace flashrt
