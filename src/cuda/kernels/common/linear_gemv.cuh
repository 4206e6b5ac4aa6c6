// The matrix-vector kernel: weights stream by bulk copies into a ring in shared memory that is filled before
// the predecessor's results are awaited; eight warps multiply, and add their parts in a fixed order.
#pragma once
#include <type_traits>

#include "cuda/kernels/common/linear_gemv_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/weight_decoders.cuh"

namespace flashrt {

constexpr int kGemvWarps = 8, kGemvThreads = (kGemvWarps + 1) * 32,
              kGemvBatch = 16;  // units finished at once

enum class GemvRows { plain, pair };
// none; gate_up: the experts' units stand one after the other; down: each chunk of columns is another
// expert's.
enum class GemvExperts { none, gate_up, down };

// The `used` experts with the largest logits, the first of equal ones, and their probabilities (Shazeer et
// al. 2017): lane i of the warp gets the i-th. At most 256 experts and 32 used.
__device__ __forceinline__ void choose_experts(const LinearGemvParams& p, const float* logits, int& chosen,
                                               float& share) {
  const int lane = lane_id();
  float value[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) value[j] = lane + 32 * j < p.experts ? logits[lane + 32 * j] : -INFINITY;
  float all = 0.f, first = 0.f, sum = 0.f;
  uint32_t taken = 0;
  chosen = 0, share = 0.f;
  for (int i = 0; i < p.used; ++i) {
    float best = -INFINITY;
    int at = 0x7fffffff;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (lane + 32 * j < p.experts && !(taken >> j & 1) && (at == 0x7fffffff || value[j] > best))
        best = value[j], at = lane + 32 * j;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, best, offset);
      const int place = __shfl_xor_sync(0xffffffffu, at, offset);
      if (other > best || (other == best && place < at)) best = other, at = place;
    }
    at = min(at, p.experts - 1);  // NaN logits: some expert, and a NaN share
    if (i == 0) first = best;
    if (at % 32 == lane) taken |= 1u << at / 32;
    const float e = expf(best - first);
    sum += e;
    if (i == lane) chosen = at, share = e;
  }
  if (!p.normalise) {
#pragma unroll
    for (int j = 0; j < 8; ++j) all += lane + 32 * j < p.experts ? expf(value[j] - first) : 0.f;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) all += __shfl_xor_sync(0xffffffffu, all, offset);
    sum = all;
  }
  share /= sum;
}

template <class T, class W, int M, GemvRows kRows, GemvExperts kExperts>
struct LinearGemv {
  const LinearGemvParams& p;
  uint8_t* smem;
  int warp, lane, row;     // row of x and y (experts only: a block row works on one row)
  int first, step, count;  // this block's units: first, first + step, …

  __device__ Mbarrier* full(int slot) const {
    return reinterpret_cast<Mbarrier*>(smem + p.barriers_at) + slot;
  }
  __device__ Mbarrier* empty(int slot) const { return full(p.slots + slot); }
  // Σx² of each multiplying warp and row of x.
  __device__ float* squares() const { return reinterpret_cast<float*>(smem + p.barriers_at + p.slots * 16); }
  __device__ float* partials(int buffer) const {
    return reinterpret_cast<float*>(smem + p.partials_at) + buffer * kGemvBatch * 2 * M * kGemvWarps;
  }

  // One warp: lanes 0 and 1 fetch the two rows of each unit, chunk by chunk.
  __device__ void produce() const {
    for (int i = lane; i < p.slots; i += 32)
      mbarrier_init(full(i), 1), mbarrier_init(empty(i), p.warps_per_unit);
    fence_barrier_init();
    __syncwarp();
    named_barrier_arrive(1, kGemvThreads);
    if (elect_one()) pdl_launch();
    int expert = 0;  // lane i: the i-th chosen
    if constexpr (kExperts == GemvExperts::gate_up) {
      float share;
      pdl_wait();
      choose_experts(p, p.router + int64_t(row) * p.experts, expert, share);
      if (lane < p.used) {
        expert_shares()[lane] = share;
        if (blockIdx.x == 0) p.chosen[row * p.used + lane] = expert;
      }
      __syncwarp();
      named_barrier_arrive(2, kGemvThreads);
    }
    if constexpr (kExperts == GemvExperts::down) {
      pdl_wait();
      if (lane < p.used) expert = p.chosen[row * p.used + lane];
    }
    // Every group of multiplying warps has a ring of its own: it sees each of its slots' phases in turn. One
    // lane issues; what it does per load is kept short, or it cannot keep up with the memory.
    const int groups = p.groups;
    const uint32_t ring_bytes = p.stages * p.stage_bytes,
                   last_bytes = uint32_t(p.row_bytes) - (p.chunks - 1) * p.chunk_bytes;
    int start = 0;
    uint32_t start_phase = 1;
#pragma unroll 1
    for (int i = 0, group = 0; i < count; ++i) {
      const int unit = first + i * step;
      int64_t row0 = kRows == GemvRows::pair ? unit : 2 * unit;
      if constexpr (kExperts == GemvExperts::gate_up) {
        const int e = unit / p.expert_units;
        row0 = int64_t(__shfl_sync(0xffffffffu, expert, e)) * p.expert_rows + (unit - e * p.expert_units);
      }
      const uint8_t* from = p.weights + row0 * p.row_bytes;
      const int64_t apart = kRows == GemvRows::plain           ? p.row_bytes
                            : kExperts == GemvExperts::gate_up ? p.expert_units * p.row_bytes
                                                               : p.n / 2 * p.row_bytes;
      int local = start;
      uint32_t phase = start_phase;
      uint8_t* to = smem + group * ring_bytes + local * p.stage_bytes;
      Mbarrier* bar = full(group * p.stages + local);
#pragma unroll 1
      for (int c = 0; c < p.chunks; ++c) {
        const uint8_t* source = from + c * p.chunk_bytes;
        uint32_t bytes = c + 1 < p.chunks ? p.chunk_bytes : last_bytes;
        if constexpr (kExperts == GemvExperts::down) {
          bytes = uint32_t(p.row_bytes);
          source = from + int64_t(__shfl_sync(0xffffffffu, expert, c)) * p.expert_rows * p.row_bytes;
        }
        if (elect_one()) {
          mbarrier_wait(bar + p.slots, phase);
          mbarrier_arrive_expect_tx(bar, 2 * bytes);
          bulk_load(to, source, bytes, bar, L2Hint::evict_first);
          bulk_load(to + p.chunk_bytes, source + apart, bytes, bar, L2Hint::evict_first);
        }
        to += p.stage_bytes, ++bar;
        if (++local == p.stages) local = 0, phase ^= 1, to -= ring_bytes, bar -= p.stages;
      }
      if (++group == groups) group = 0, start = local, start_phase = phase;
    }
    if (lane < 2 && p.ahead[lane] != nullptr) {
      constexpr int64_t kPiece = 8192;
      for (int64_t at = blockIdx.x * kPiece; at < p.ahead_bytes; at += gridDim.x * kPiece)
        bulk_prefetch(p.ahead[lane] + at, uint32_t(min(kPiece, p.ahead_bytes - at)));
    }
  }
  __device__ float* expert_shares() const { return squares() + M * kGemvWarps; }

  // Multiplying warps: x·(1 + norm_scale) into shared memory, zeros beyond k, and this warp's Σx². The
  // normalisation itself is a factor of the result; f16, whose range is small, is normalised here.
  __device__ void stage_activations() const {
    constexpr bool kNormaliseHere = std::is_same_v<T, __half>;
    constexpr int kAtOnce = M == 1 ? 4 : 2;                 // packs in flight per thread
    const int per_chunk = p.chunk_steps * 32 * W::kGroups;  // packs of 8 columns
    const int packs = p.chunks * per_chunk;
    const bool norm = p.norm_scale != nullptr;
    float total[M] = {};
    for (int pass = kNormaliseHere && norm ? 0 : 1; pass < 2; ++pass) {
#pragma unroll 1
      for (int begin = threadIdx.x; begin < packs; begin += kAtOnce * kGemvWarps * 32) {
        uint4 bits[kAtOnce][M] = {};
        float4 scale[kAtOnce][2];
        int valid[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int pack = begin + i * kGemvWarps * 32;
          int column = pack * 8, room = p.k - column;
          if constexpr (kExperts == GemvExperts::down) {  // an expert's columns end before its steps do
            const int chunk = pack / per_chunk, inside = (pack - chunk * per_chunk) * 8;
            column = chunk * p.chunk_columns + inside, room = p.chunk_columns - inside;
          }
          valid[i] = pack < packs ? room : 0;
          if (valid[i] <= 0) continue;
#pragma unroll
          for (int r = 0; r < M; ++r) {
            if (r < p.m)
              bits[i][r] = *reinterpret_cast<const uint4*>(static_cast<const T*>(p.x) +
                                                           (row + r) * p.x_stride + column);
          }
          if (norm) {  // readable to the end of the pack: vectors of weights end with padding
            const auto* from = reinterpret_cast<const float4*>(p.norm_scale + column);
            scale[i][0] = from[0], scale[i][1] = from[1];
          }
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int pack = begin + i * kGemvWarps * 32;
          if (pack >= packs) break;
          const float factor[8] = {scale[i][0].x, scale[i][0].y, scale[i][0].z, scale[i][0].w,
                                   scale[i][1].x, scale[i][1].y, scale[i][1].z, scale[i][1].w};
#pragma unroll
          for (int r = 0; r < M; ++r) {
            float v[8];
            unpack8<T>(bits[i][r], v);
            const float rate = kNormaliseHere && norm && pass == 1 ? rstd(r) : 1.f;
#pragma unroll
            for (int j = 0; j < 8; ++j) {
              v[j] = j < valid[i] ? v[j] : 0.f;
              total[r] = fmaf(v[j], v[j], total[r]);
              if (norm && j < valid[i]) v[j] *= (1.f + factor[j]) * rate;
            }
            if (pass == 0) continue;
            const uint4 packed{pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]),
                               pack2<T>(v[6], v[7])};
            *reinterpret_cast<uint4*>(smem + p.x_at + (r * packs + pack) * 16) = packed;
          }
        }
      }
      if (norm && (pass == 0 || !kNormaliseHere)) {
#pragma unroll
        for (int r = 0; r < M; ++r) {
#pragma unroll
          for (int offset = 16; offset > 0; offset /= 2)
            total[r] += __shfl_xor_sync(0xffffffffu, total[r], offset);
          if (lane == 0) squares()[r * kGemvWarps + warp] = total[r];
        }
      }
      named_barrier_sync(3, kGemvWarps * 32);
    }
  }
  __device__ float rstd(int r) const {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < kGemvWarps; ++i) sum += squares()[r * kGemvWarps + i];
    return rsqrtf(sum * p.inv_k + p.eps);
  }

  // This warp's steps (two at most) of one chunk of one unit. The slot is handed back as soon as it is read.
  __device__ void multiply(int slot, uint32_t phase, int chunk, int part, float (&sum)[M][2]) const {
    const int row_packs = p.chunks * p.chunk_steps * 32 * W::kGroups, first_step = chunk * p.chunk_steps;
    const uint32_t from = smem_u32(smem) + slot * p.stage_bytes;
    typename W::Bits bits[2][2] = {};
    bool there[2];
    uint4 early[2] = {};  // one row's activations are at hand before the weights
    if constexpr (M == 1 && W::kGroups == 1) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int s = part + i * p.warps_per_unit;
        if (s < p.chunk_steps)
          early[i] = ld_shared_16(smem_u32(smem) + p.x_at + ((first_step + s) * 32 + lane) * 16);
      }
    }
    mbarrier_wait(full(slot), phase);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int s = part + i * p.warps_per_unit;
      there[i] = s < p.chunk_steps && first_step + s < p.steps;
      const int inside = s * 256 + lane * 8;
      if (there[i] && (W::kPadded || (inside < p.chunk_columns && chunk * p.chunk_columns + inside < p.k))) {
        bits[i][0] = W::load(from + s * W::kStepBytes, lane);
        bits[i][1] = W::load(from + p.chunk_bytes + s * W::kStepBytes, lane);
      }
    }
    __syncwarp();
    if (elect_one()) mbarrier_arrive(empty(slot));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!there[i]) break;
      const int s = first_step + part + i * p.warps_per_unit;
#pragma unroll
      for (int g = 0; g < W::kGroups; ++g) {
        float w[2][8];
        W::decode(bits[i][0], g, w[0]);
        W::decode(bits[i][1], g, w[1]);
#pragma unroll
        for (int r = 0; r < M; ++r) {
          float x[8], low[2] = {}, high[2] = {};
          if constexpr (M == 1 && W::kGroups == 1)
            unpack8<T>(early[i], x);
          else
            unpack8<T>(ld_shared_16(smem_u32(smem) + p.x_at +
                                    (r * row_packs + (s * W::kGroups + g) * 32 + lane) * 16),
                       x);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              low[h] = fmaf(w[h][j], x[j], low[h]);
              high[h] = fmaf(w[h][j + 4], x[j + 4], high[h]);
            }
          }
          sum[r][0] += low[0] + high[0];
          sum[r][1] += low[1] + high[1];
        }
      }
    }
  }

  // Adds 8 values per lane over the warp, handing each lane fewer of them at every step. Lane l ends with
  // value l / 4, which goes to `to`[l / 4 · kGemvWarps].
  __device__ void reduce(float (&v)[8], float* to) const {
#pragma unroll
    for (int half = 4, offset = 16; half > 0; half /= 2, offset /= 2) {
      const bool upper = (lane & offset) != 0;
#pragma unroll
      for (int i = 0; i < half; ++i) {
        const float mine = upper ? v[i + half] : v[i], other = upper ? v[i] : v[i + half];
        v[i] = mine + __shfl_xor_sync(0xffffffffu, other, offset);
      }
    }
    v[0] += __shfl_xor_sync(0xffffffffu, v[0], 2);
    v[0] += __shfl_xor_sync(0xffffffffu, v[0], 1);
    if (lane % 4 == 0) to[lane / 4 * kGemvWarps] = v[0];
  }

  __device__ float product(const float* partial, int w_row) const {
    float sum = 0.f;
    const auto* four = reinterpret_cast<const float4*>(partial);
    if (p.warps_per_unit >= 4) {
      for (int i = 0; i < p.warps_per_unit / 4; ++i) sum += (four[i].x + four[i].y) + (four[i].z + four[i].w);
    } else {
      for (int i = 0; i < p.warps_per_unit; ++i) sum += partial[i];
    }
    return p.row_scale != nullptr ? sum * p.row_scale[w_row] : sum;
  }
  __device__ float residual_at(int r, int column) const {
    if (p.residual == nullptr) return 0.f;
    const T* from = static_cast<const T*>(p.residual) + int64_t(row + r) * p.residual_stride + column;
    if constexpr (std::is_same_v<T, __half>)
      return __half2float(*from);
    else
      return __bfloat162float(*from);
  }
  __device__ void store(int r, int column, float v) const {
    const int64_t at = int64_t(row + r) * p.y_stride + column;
    if (p.y_f32)
      static_cast<float*>(p.y)[at] = v;
    else if constexpr (std::is_same_v<T, __half>)
      static_cast<__half*>(p.y)[at] = __float2half_rn(v);
    else
      static_cast<__nv_bfloat16*>(p.y)[at] = __float2bfloat16_rn(v);
  }
  // Element i of the batch (M rows of x, then units, then a unit's two rows): where it goes.
  __device__ int column_of(int unit, int i) const {
    return kRows == GemvRows::pair ? unit : 2 * unit + (i & 1);
  }

  // One warp finishes the `units` units of a batch that `partial` holds; the group's u-th is unit
  // `unit0 + u·stride`.
  __device__ void finish(const float* partial, int units, int unit0, int stride, float residual) const {
    constexpr int kPerUnit = kRows == GemvRows::pair ? 1 : 2;
    const int per_row = units * kPerUnit;
    const float rate = M == 1 && p.norm_scale != nullptr && !std::is_same_v<T, __half> ? rstd(0) : 1.f;
    for (int i = lane; i < per_row * M; i += 32) {
      const int r = M == 1 ? 0 : i / per_row, inside = i - r * per_row;
      if (r >= p.m) break;
      const int u = inside / kPerUnit, unit = unit0 + u * stride, column = column_of(unit, inside);
      const float* from = partial + (u * M + r) * 2 * kGemvWarps;
      const float scale = M == 1                                                  ? rate
                          : p.norm_scale != nullptr && !std::is_same_v<T, __half> ? rstd(r)
                                                                                  : 1.f;
      float v;
      if constexpr (kRows == GemvRows::pair) {
        float a = product(from, unit) * scale, b = product(from + kGemvWarps, unit + p.n / 2) * scale;
        if (p.bias != nullptr) a += p.bias[unit], b += p.bias[unit + p.n / 2];
        v = point_function(p.function, a) * b;
        if constexpr (kExperts == GemvExperts::gate_up) v *= expert_shares()[unit / p.expert_units];
      } else {
        v = product(from + (inside & 1) * kGemvWarps, column) * scale;
        if (p.bias != nullptr) v += p.bias[column];
        v = point_function(p.function, v);
      }
      if (p.gate != nullptr) v *= p.gate[column];
      store(r, column, v + (M == 1 ? residual : residual_at(r, column)));
    }
  }

  __device__ void consume() const {
    if (p.norm_scale != nullptr) {
      for (int i = threadIdx.x * 32; i < p.k; i += kGemvWarps * 32 * 32)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(p.norm_scale + i));
    }
    named_barrier_sync(1, kGemvThreads);
    pdl_wait();
    stage_activations();
    if constexpr (kExperts == GemvExperts::gate_up) named_barrier_sync(2, kGemvThreads);
    const int groups = p.groups, group = warp / p.warps_per_unit;
    const int part = warp - group * p.warps_per_unit;
    int local = 0, batch = 0;
    uint32_t phase = 0;
#pragma unroll 1
    for (int begin = group; begin < count; begin += groups * kGemvBatch, ++batch) {
      const int units = min(kGemvBatch, (count - begin + groups - 1) / groups);
      const bool finisher = batch % p.warps_per_unit == part;
      float residual = 0.f;
      if (M == 1 && finisher && kRows == GemvRows::plain && lane < 2 * units)
        residual = residual_at(0, column_of(first + (begin + lane / 2 * groups) * step, lane));
      float* partial = partials(batch & 1) + group * p.warps_per_unit;
      constexpr int kTogether = 4 / M;  // units whose sums are added over the warp at once
#pragma unroll 1
      for (int u = 0; u < units; u += kTogether) {
        float sum[kTogether][M][2] = {};
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          if (u + i >= units) break;
#pragma unroll 1
          for (int c = 0; c < p.chunks; ++c) {
            multiply(group * p.stages + local, phase, c, part, sum[i]);
            if (++local == p.stages) local = 0, phase ^= 1;
          }
        }
        reduce(reinterpret_cast<float(&)[8]>(sum), partial + u * M * 2 * kGemvWarps + part);
      }
      if (p.warps_per_unit > 1)
        named_barrier_sync(4 + group, p.warps_per_unit * 32);
      else
        __syncwarp();
      if (finisher) finish(partial, units, first + begin * step, groups * step, residual);
    }
  }

  __device__ void run() const {
    if (warp == kGemvWarps)
      produce();
    else
      consume();
  }
};

template <class T, class W, int M, GemvRows kRows, GemvExperts kExperts = GemvExperts::none>
__device__ __forceinline__ void linear_gemv_stream(const LinearGemvParams& p) {
  extern __shared__ __align__(128) uint8_t gemv_smem[];
  // Neighbouring blocks read neighbouring rows: together they move through memory once.
  const int first = int(blockIdx.x), step = int(gridDim.x), count = (p.units - first + step - 1) / step;
  LinearGemv<T, W, M, kRows, kExperts>{p,     gemv_smem, int(warp_id()), int(lane_id()), int(blockIdx.y),
                                       first, step,      count}
      .run();
}

}  // namespace flashrt
