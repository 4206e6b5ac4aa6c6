// Linear layer with packed weights for at most 8 rows of x, bound by reading the weights once: tiles stream
// by bulk copies into a ring that is filled before the predecessor's results are awaited; some warps decode
// to registers and multiply with tensor cores, each every eighth step of a tile; another adds their parts in
// a fixed order.
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/common/weight_packed.cuh"

namespace flashrt {

namespace {

constexpr int kWarps = kPackedWarps, kThreads = (kWarps + 2) * 32;  // one fetches, one finishes

template <PackedKind kKind>
struct LinearPacked {
  const LinearPackedParams& p;
  uint8_t* smem;
  int warp, lane, first, stride;  // this block's tiles: first, first + stride, …

  static constexpr int kStepBytes = packed_step_bytes(kKind);

  __device__ Mbarrier* full(int slot) const {
    return reinterpret_cast<Mbarrier*>(smem + p.barriers_at) + slot;
  }
  __device__ Mbarrier* empty(int slot) const { return full(p.stages + slot); }
  __device__ Mbarrier* summed(int buffer) const { return full(2 * p.stages + buffer); }
  __device__ Mbarrier* free(int buffer) const { return summed(kPackedBuffers + buffer); }
  __device__ float4* partials(int buffer) const {
    return reinterpret_cast<float4*>(smem + p.partials_at) + buffer * kWarps * 32;
  }
  __device__ float* squares() const { return reinterpret_cast<float*>(smem + p.squares_at); }

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

  // x·(1 + norm_scale) into shared memory in the order of the multiplications, zeros beyond k, and each
  // warp's Σx². The normalisation itself is a factor of the result.
  __device__ void stage_x() const {
    const int packs = p.w.steps * (kPackedColumns / 8);
#pragma unroll 1
    for (int r = 0; r < p.m; ++r) {
      const auto* from = static_cast<const __nv_bfloat16*>(p.x) + r * p.x_stride;
      uint8_t* to = smem + p.x_at + r * p.x_row_bytes;
      float total = 0.f;
#pragma unroll 2
      for (int pack = threadIdx.x; pack < packs; pack += kWarps * 32) {
        const int column = pack * 8;
        uint4 bits{};
        if (column < p.w.k) bits = *reinterpret_cast<const uint4*>(from + column);
        if (p.norm_scale != nullptr && column < p.w.k) {
          uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float2 v = unpack2<__nv_bfloat16>(words[i]);
            const float2 scale = *reinterpret_cast<const float2*>(p.norm_scale + column + 2 * i);
            total = fmaf(v.x, v.x, fmaf(v.y, v.y, total));
            words[i] = pack2<__nv_bfloat16>(fmaf(v.x, scale.x, v.x), fmaf(v.y, scale.y, v.y));
          }
          bits = {words[0], words[1], words[2], words[3]};
        }
        uint8_t* group = to + column / 64 * 128;
#pragma unroll
        for (int half = 0; half < 2; ++half) {  // runs of 4 columns
          const int run = column % 64 / 4 + half, outer = run / 4, inner = run % 4;
          const int j = kKind == PackedKind::nvfp4 ? inner : outer,
                    t = kKind == PackedKind::nvfp4 ? outer : inner;
          *reinterpret_cast<uint2*>(group + j / 2 * 64 + t * 16 + j % 2 * 8) =
              half == 0 ? make_uint2(bits.x, bits.y) : make_uint2(bits.z, bits.w);
        }
      }
      if (p.norm_scale != nullptr) {
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(0xffffffffu, total, offset);
        if (lane == 0) squares()[r * kWarps + warp] = total;
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

  // What a tile's results take beside the sums, asked for before they are there.
  struct Beside {
    float scale[2] = {1.f, 1.f}, bias[2] = {}, residual[4] = {};
  };
  __device__ Beside load_beside(int tile) const {
    Beside b;
    const int half = p.w.n / 2, row = tile * 8 + lane / 4;
    if (tile >= p.tiles || row >= half) return b;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (p.w.row_scale != nullptr) b.scale[i] = p.w.row_scale[tile * kPackedRows + lane / 4 + 8 * i];
      if (p.bias != nullptr) b.bias[i] = p.bias[row + i * half];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < 2 || !p.pair) b.residual[i] = residual_at(lane % 4 * 2 + i % 2, row + i / 2 * half);
    }
    return b;
  }

  // One warp: adds up the sums of 16 rows and 8 columns. Lane 4 g + t has rows g, g + 8 and rows of x 2 t, 2
  // t + 1.
  __device__ void finish() const {
    pdl_wait();
    named_barrier_sync(1, (kWarps + 1) * 32);
    float factor[2] = {1.f, 1.f};
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int r = lane % 4 * 2 + c;
      if (p.norm_scale != nullptr && r < p.m) factor[c] = rstd(r);
    }
    int buffer = 0;
    uint32_t phase = 0;
    Beside next = load_beside(first);
#pragma unroll 1
    for (int tile = first; tile < p.tiles; tile += stride) {
      const Beside b = next;
      next = load_beside(tile + stride);
      mbarrier_wait(summed(buffer), phase);
      float v[4] = {};
#pragma unroll
      for (int i = 0; i < kWarps; ++i) {
        const float4 part = partials(buffer)[i * 32 + lane];
        v[0] += part.x, v[1] += part.y, v[2] += part.z, v[3] += part.w;
      }
      __syncwarp();
      if (elect_one()) mbarrier_arrive(free(buffer));
      if (++buffer == kPackedBuffers) buffer = 0, phase ^= 1;
      const int half = p.w.n / 2, row = tile * 8 + lane / 4;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int r = lane % 4 * 2 + c;
        if (r >= p.m || row >= half) continue;
        const float low = fmaf(v[c], b.scale[0] * factor[c], b.bias[0]);
        const float high = fmaf(v[2 + c], b.scale[1] * factor[c], b.bias[1]);
        if (p.pair) {
          store(r, row, point_function(p.function, low) * high, b.residual[c]);
        } else {
          store(r, row, point_function(p.function, low), b.residual[c]);
          store(r, row + half, point_function(p.function, high), b.residual[2 + c]);
        }
      }
    }
  }

  __device__ void consume() const {
    pdl_wait();
    stage_x();
    const bool inside = lane / 4 < p.m;
    const uint32_t x = smem_u32(smem + p.x_at) + (inside ? lane / 4 : 0) * p.x_row_bytes + lane % 4 * 16;
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
          PackedStep<kKind>{chunk + s * kStepBytes, x + (s0 + s) * 256, lane, inside, p.w.bf16_scales}.run(
              acc);
        }
        s -= steps;
        __syncwarp();
        if (elect_one()) mbarrier_arrive(empty(slot));
        if (++slot == p.stages) slot = 0, phase ^= 1;
      }
      mbarrier_wait(free(buffer), buffer_phase);
      partials(buffer)[warp * 32 + lane] = make_float4(acc[0][0] + acc[1][0], acc[0][1] + acc[1][1],
                                                       acc[0][2] + acc[1][2], acc[0][3] + acc[1][3]);
      __syncwarp();
      if (elect_one()) mbarrier_arrive(summed(buffer));
      if (++buffer == kPackedBuffers) buffer = 0, buffer_phase ^= 1;
    }
  }
};

template <PackedKind kKind>
__device__ __forceinline__ void linear_packed(const LinearPackedParams& p) {
  extern __shared__ __align__(128) uint8_t smem[];
  const LinearPacked<kKind> kernel{p, smem, int(warp_id()), int(lane_id()), int(blockIdx.x), int(gridDim.x)};
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
#define FLASHRT_LINEAR_PACKED(kind)                                        \
  extern "C" __global__ void __launch_bounds__(kThreads, 2)                \
      linear_packed_##kind(const __grid_constant__ LinearPackedParams p) { \
    linear_packed<PackedKind::kind>(p);                                    \
  }
FLASHRT_LINEAR_PACKED(fp8)
FLASHRT_LINEAR_PACKED(int8)
FLASHRT_LINEAR_PACKED(int4)
FLASHRT_LINEAR_PACKED(int4_fine)
FLASHRT_LINEAR_PACKED(nvfp4)

}  // namespace flashrt
