// Linear layer with packed weights for at most 8 rows of x, bound by reading the weights once: tiles stream
// by bulk copies into a ring that is filled before the predecessor's results are awaited; some warps decode
// to registers and multiply with tensor cores, each every eighth step of a tile; another adds their parts in
// a fixed order.
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/reduce.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/weight_packed.cuh"

namespace flashrt {

namespace {

constexpr int kWarps = kPackedWarps, kThreads = (kWarps + 2) * 32;  // one fetches, one finishes

template <PackedKind kKind, bool kOne>
struct LinearPacked {
  const LinearPackedParams& p;
  uint8_t* smem;
  int warp, lane, first, stride;  // this block's tiles: first, first + stride, …

  static constexpr int kStepBytes = packed_step_bytes(kKind);
  static constexpr int kSumColumns = packed_sum_columns(kKind), kSumRows = kOne ? 1 : 8;
  static constexpr int kColumns = kOne ? 1 : 2;  // rows of x per lane of the results

  __device__ Mbarrier* full(int slot) const {
    return reinterpret_cast<Mbarrier*>(smem + p.barriers_at) + slot;
  }
  __device__ Mbarrier* empty(int slot) const { return full(p.stages + slot); }
  __device__ Mbarrier* summed(int buffer) const { return full(2 * p.stages + buffer); }
  __device__ Mbarrier* free(int buffer) const { return summed(kPackedBuffers + buffer); }
  // Of each warp: one row of x: rows g, g + 8 of the tile in place g; else every lane's four.
  __device__ float* partials(int buffer) const {
    return reinterpret_cast<float*>(smem + p.partials_at) + buffer * kWarps * kPackedPartials;
  }
  __device__ float* squares() const { return reinterpret_cast<float*>(smem + p.squares_at); }
  __device__ float* totals() const { return squares() + kPackedMostRows * kWarps; }  // Σx

  // One thread.
  __device__ void produce() const {
    const int64_t tile_bytes = int64_t(p.w.steps) * kStepBytes;
    int slot = 0;
    uint32_t phase = 1;
    if (p.trigger == 0) pdl_launch();
#pragma unroll 1
    for (int tile = first; tile < p.tiles; tile += stride) {
      const uint8_t* from = p.w.tiles + tile * tile_bytes;
#pragma unroll 1
      for (int s = 0; s < p.w.steps; s += p.chunk_steps) {
        const uint32_t bytes = uint32_t(min(p.chunk_steps, p.w.steps - s)) * kStepBytes;
        mbarrier_wait(empty(slot), phase);
        mbarrier_arrive_expect_tx(full(slot), bytes);
        bulk_load(smem + slot * p.chunk_steps * kStepBytes, from + int64_t(s) * kStepBytes, bytes, full(slot),
                  L2Hint::evict_first);
        if (++slot == p.stages) slot = 0, phase ^= 1;
      }
    }
    if (p.trigger == 1) pdl_launch();
  }

  // Eight columns as they come: x, and 1 + norm_scale less 1, which no other kernel writes.
  struct Pack {
    uint4 bits{};
    float4 norm[2]{};
  };
  static constexpr int kAtOnce = 2,
                       kApart = kWarps * 32;  // packs of a thread in flight; between a thread's packs
  __device__ __forceinline__ void load_norm(int column, Pack& pack) const {
    if (p.norm_scale == nullptr || column >= p.w.k) return;
    const auto* from = reinterpret_cast<const float4*>(p.norm_scale + column);
    pack.norm[0] = from[0], pack.norm[1] = from[1];
  }
  // x · (1 + norm_scale); its squares before that and its sum after it are added up.
  __device__ __forceinline__ uint4 take(const Pack& pack, float& square, float& sum) const {
    uint32_t words[4] = {pack.bits.x, pack.bits.y, pack.bits.z, pack.bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (p.norm_scale != nullptr) {
        const float2 v = unpack2<__nv_bfloat16>(words[i]);
        const float4& four = pack.norm[i / 2];
        const float2 scale = i % 2 ? make_float2(four.z, four.w) : make_float2(four.x, four.y);
        square = fmaf(v.x, v.x, fmaf(v.y, v.y, square));
        words[i] = pack2<__nv_bfloat16>(fmaf(v.x, scale.x, v.x), fmaf(v.y, scale.y, v.y));
      }
      if constexpr (kSumColumns > 0 || kKind == PackedKind::int8) {
        const float2 v = unpack2<__nv_bfloat16>(words[i]);
        sum += v.x + v.y;
      }
      words[i] = multiply_bf16x2(words[i], kPackedXFactor);
    }
    return {words[0], words[1], words[2], words[3]};
  }
  // Row r's pack into shared memory in the order of the multiplications, with the sum of its group.
  __device__ __forceinline__ void put(int r, int column, const Pack& pack, float& square,
                                      float& total) const {
    const bool inside = column < p.w.steps * kPackedColumns;
    float sum = 0.f;
    const uint4 bits = take(pack, square, sum);
    if constexpr (kSumColumns > 0) {
#pragma unroll
      for (int offset = kSumColumns / 16; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (inside && column % kSumColumns == 0) {
        reinterpret_cast<float*>(smem + p.sums_at)[column / kSumColumns * kSumRows + r] =
            sum * kPackedSumFactor;
      }
    } else {
      total += sum;
    }
    if (!inside) return;
    uint8_t* group = smem + p.x_at + r * p.x_row_bytes + column / 64 * 128;
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // runs of 4 columns
      const int run = column % 64 / 4 + half, outer = run / 4, inner = run % 4;
      const int j = kKind == PackedKind::nvfp4 ? inner : outer,
                t = kKind == PackedKind::nvfp4 ? outer : inner;
      *reinterpret_cast<uint2*>(group + j / 2 * 64 + t * 16 + j % 2 * 8) =
          half == 0 ? make_uint2(bits.x, bits.y) : make_uint2(bits.z, bits.w);
    }
  }
  // Waits for x, then puts it into shared memory, zeros beyond k, with the sums of its groups and each warp's
  // Σx² and Σx. The normalisation itself is a factor of the result.
  __device__ void stage_x() const {
    const int packs = p.w.steps * (kPackedColumns / 8);
    if (threadIdx.x < 32) *reinterpret_cast<uint32_t*>(smem + p.zeros_at + threadIdx.x * 4) = 0u;
    Pack pack[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) load_norm((int(threadIdx.x) + i * kApart) * 8, pack[i]);
    pdl_wait();
#pragma unroll 1
    for (int r = 0; r < p.m; ++r) {
      const auto* from = static_cast<const __nv_bfloat16*>(p.x) + r * p.x_stride;
      float square = 0.f, total = 0.f;
#pragma unroll 1
      for (int first_pack = 0; first_pack < packs; first_pack += kAtOnce * kApart) {
        const int column = (first_pack + int(threadIdx.x)) * 8;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int at = column + i * kApart * 8;
          pack[i].bits = at < p.w.k ? *reinterpret_cast<const uint4*>(from + at) : uint4{};
          if (packs > kAtOnce * kApart) load_norm(at, pack[i]);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (first_pack + i * kApart < packs) put(r, column + i * kApart * 8, pack[i], square, total);
        }
      }
      if (p.norm_scale != nullptr) {
        square = warp_total(square);
        if (lane == 0) squares()[r * kWarps + warp] = square;
      }
      if constexpr (kKind == PackedKind::int8) {
        total = warp_total(total);
        if (lane == 0) totals()[r * kWarps + warp] = total;
      }
    }
    named_barrier_sync(1, (kWarps + 1) * 32);
  }
  __device__ float rstd(int r) const {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) sum += squares()[r * kWarps + i];
    return rsqrtf(sum * p.inv_k + p.eps);
  }

  __device__ float residual_at(int r, int column) const {
    if (p.residual == nullptr || r >= p.m || column >= p.w.n) return 0.f;
    return __bfloat162float(static_cast<const __nv_bfloat16*>(p.residual)[r * p.residual_stride + column]);
  }
  __device__ void store(int r, int column, float v, float residual) const {
    if (p.gate != nullptr) v *= p.gate[column];
    v += residual;
    const int64_t at = r * p.y_stride + column;
    if (p.y_f32)
      static_cast<float*>(p.y)[at] = v;
    else
      static_cast<__nv_bfloat16*>(p.y)[at] = __float2bfloat16_rn(v);
  }

  // What a tile's results take beside the sums, asked for before they are there. One row of x: lane g (of
  // each eight) has rows g, g + 8; else lane 4 g + t, and rows 2 t, 2 t + 1 of x.
  __device__ int row_of_lane() const { return kOne ? lane % 8 : lane / 4; }
  __device__ int row_of_x(int c) const { return kOne ? 0 : lane % 4 * 2 + c; }
  struct Beside {
    float scale[2], bias[2] = {}, residual[2 * kColumns] = {};
  };
  __device__ Beside load_beside(int tile) const {
    Beside b;
    b.scale[0] = packed_row_factor(kKind, kOne, 0), b.scale[1] = packed_row_factor(kKind, kOne, 1);
    const int half = p.w.n / 2, row = tile * 8 + row_of_lane();
    if (tile >= p.tiles || row >= half) return b;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (p.w.row_scale != nullptr) b.scale[i] *= p.w.row_scale[tile * kPackedRows + row_of_lane() + 8 * i];
      if (p.bias != nullptr) b.bias[i] = p.bias[row + i * half];
    }
#pragma unroll
    for (int i = 0; i < 2 * kColumns; ++i) {
      if (i < kColumns || !p.pair)
        b.residual[i] = residual_at(row_of_x(i % kColumns), row + i / kColumns * half);
    }
    return b;
  }

  // The sums of rows g, g + 8 over all warps.
  __device__ void add_partials(int buffer, float (&v)[2 * kColumns]) const {
    if constexpr (kOne) {
#pragma unroll
      for (int i = 0; i < kWarps / 4; ++i) {
        const float2 part = reinterpret_cast<const float2*>(partials(buffer))[i * 32 + lane];
        v[0] += part.x, v[1] += part.y;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        v[i] += __shfl_xor_sync(0xffffffffu, v[i], 8);
        v[i] += __shfl_xor_sync(0xffffffffu, v[i], 16);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWarps; ++i) {
        const float4 part = reinterpret_cast<const float4*>(partials(buffer))[i * 32 + lane];
        v[0] += part.x, v[1] += part.y, v[2] += part.z, v[3] += part.w;
      }
    }
  }

  // One warp: adds up the sums of 16 rows and the rows of x.
  __device__ void finish() const {
    pdl_wait();
    named_barrier_sync(1, (kWarps + 1) * 32);
    float factor[kColumns], zero[kColumns] = {};
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int r = row_of_x(c);
      factor[c] = p.norm_scale != nullptr && r < p.m ? rstd(r) : 1.f;
      if (kKind == PackedKind::int8 && r < p.m) {  // codes are 128 too large
#pragma unroll
        for (int i = 0; i < kWarps; ++i) zero[c] += totals()[r * kWarps + i];
        zero[c] *= 128.f * kPackedSumFactor;
      }
    }
    int buffer = 0;
    uint32_t phase = 0;
    Beside next = load_beside(first);
#pragma unroll 1
    for (int tile = first; tile < p.tiles; tile += stride) {
      const Beside b = next;
      next = load_beside(tile + stride);
      mbarrier_wait(summed(buffer), phase);
      float v[2 * kColumns] = {};
      add_partials(buffer, v);
      __syncwarp();
      if (elect_one()) mbarrier_arrive(free(buffer));
      if (++buffer == kPackedBuffers) buffer = 0, phase ^= 1;
      const int half = p.w.n / 2, row = tile * 8 + row_of_lane();
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int r = row_of_x(c);
        if (r >= p.m || row >= half || (kOne && lane >= 8)) continue;
        const float low = fmaf(v[c] - zero[c], b.scale[0] * factor[c], b.bias[0]);
        const float high = fmaf(v[kColumns + c] - zero[c], b.scale[1] * factor[c], b.bias[1]);
        if (p.pair) {
          store(r, row, point_function(p.function, low) * high, b.residual[c]);
        } else {
          store(r, row, point_function(p.function, low), b.residual[c]);
          store(r, row + half, point_function(p.function, high), b.residual[kColumns + c]);
        }
      }
    }
  }

  __device__ void store_partials(int buffer, PackedSums& acc) const {
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      v[i] = is_int4(kKind) || (kKind == PackedKind::nvfp4 && kOne) ? acc[0][i] : acc[0][i] + acc[1][i];
    if constexpr (!kOne) {
      reinterpret_cast<float4*>(partials(buffer))[warp * 32 + lane] = make_float4(v[0], v[1], v[2], v[3]);
      return;
    }
    if constexpr (kKind == PackedKind::nvfp4) {  // blocks of columns are apart
      v[0] += v[1], v[2] += v[3];
#pragma unroll
      for (int offset = 1; offset < 4; offset *= 2) {
        v[0] += __shfl_xor_sync(0xffffffffu, v[0], offset);
        v[2] += __shfl_xor_sync(0xffffffffu, v[2], offset);
      }
    }
    if (lane % 4 == 0) {
      reinterpret_cast<float2*>(partials(buffer))[warp * 8 + lane / 4] = make_float2(v[0], v[2]);
    }
  }

  __device__ void consume() const {
    stage_x();
    // Where this lane's x of each group of 64 columns begins, and by how much it moves per step; lanes that
    // have none read zeros.
    uint32_t x[2];
    int x_step[2];
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      const int g = lane / 4, t = lane % 4;
      const bool inside = !kOne ? g < p.m : kKind == PackedKind::nvfp4 ? g == 2 * t + group : g == 0;
      x[group] = smem_u32(
          smem + (inside ? p.x_at + (kOne ? 0 : g) * p.x_row_bytes + group * 128 + t * 16 : p.zeros_at));
      x_step[group] = inside ? 256 : 0;
    }
    constexpr int kSums =
        kSumColumns > 0 ? kPackedColumns / kSumColumns * kSumRows * 4 : 0;  // bytes of a step
    const uint32_t sums = smem_u32(smem + p.sums_at) + (kOne ? 0 : lane % 4 * 8);
    int slot = 0, buffer = 0, s = warp;  // steps go round the warps, across chunks and tiles
    uint32_t phase = 0, buffer_phase = 1;
#pragma unroll 1
    for (int tile = first; tile < p.tiles; tile += stride) {
      PackedSums acc = {};
#pragma unroll 1
      for (int s0 = 0; s0 < p.w.steps; s0 += p.chunk_steps) {
        const int steps = min(p.chunk_steps, p.w.steps - s0);
        const uint32_t chunk = smem_u32(smem) + slot * p.chunk_steps * kStepBytes;
        mbarrier_wait(full(slot), phase);
#pragma unroll 1
        for (; s < steps; s += kWarps) {
          const int at = s0 + s;
          PackedStep<kKind, kOne>{.step = chunk + s * kStepBytes,
                                  .x = {x[0] + at * x_step[0], x[1] + at * x_step[1]},
                                  .sums = sums + at * kSums,
                                  .lane = lane,
                                  .bf16_scales = p.w.bf16_scales}
              .run(acc);
        }
        s -= steps;
        __syncwarp();
        if (elect_one()) mbarrier_arrive(empty(slot));
        if (++slot == p.stages) slot = 0, phase ^= 1;
      }
      mbarrier_wait(free(buffer), buffer_phase);
      store_partials(buffer, acc);
      __syncwarp();
      if (elect_one()) mbarrier_arrive(summed(buffer));
      if (++buffer == kPackedBuffers) buffer = 0, buffer_phase ^= 1;
    }
  }
};

template <PackedKind kKind, bool kOne>
__device__ __forceinline__ void linear_packed(const LinearPackedParams& p) {
  extern __shared__ __align__(128) uint8_t smem[];
  const LinearPacked<kKind, kOne> kernel{
      p, smem, int(warp_id()), int(lane_id()), int(blockIdx.x), int(gridDim.x)};
  if (threadIdx.x == kWarps * 32) {
    for (int i = 0; i < p.stages; ++i)
      mbarrier_init(kernel.full(i), 1), mbarrier_init(kernel.empty(i), kWarps);
    for (int i = 0; i < kPackedBuffers; ++i) {
      mbarrier_init(kernel.summed(i), kWarps), mbarrier_init(kernel.free(i), 1);
    }
    fence_barrier_init();
  }
  __syncthreads();
  if (kernel.warp == kWarps) {
    if (elect_one()) kernel.produce();
  } else if (kernel.warp > kWarps) {
    kernel.finish();
  } else {
    kernel.consume();
  }
}

}  // namespace

// grid: one block per multiprocessor, or per tile; block: kThreads
#define FLASHRT_LINEAR_PACKED(kind, rows, one)                                      \
  extern "C" __global__ void __launch_bounds__(kThreads, 3)                         \
      linear_packed_##kind##_##rows(const __grid_constant__ LinearPackedParams p) { \
    linear_packed<PackedKind::kind, one>(p);                                        \
  }
#define FLASHRT_LINEAR_PACKED_ROWS(kind) \
  FLASHRT_LINEAR_PACKED(kind, m1, true)  \
  FLASHRT_LINEAR_PACKED(kind, m8, false)
FLASHRT_LINEAR_PACKED_ROWS(fp8)
FLASHRT_LINEAR_PACKED_ROWS(int8)
FLASHRT_LINEAR_PACKED_ROWS(int4)
FLASHRT_LINEAR_PACKED_ROWS(int4_fine)
FLASHRT_LINEAR_PACKED_ROWS(nvfp4)

}  // namespace flashrt
