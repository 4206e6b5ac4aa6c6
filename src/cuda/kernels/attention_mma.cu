// Attention of half types on mma.sync (sm_80 and later): online softmax over key tiles, grouped heads packed
// into rows.
#include "cuda/kernels/common/attention_range.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/mma_sync.cuh"
#include "cuda/kernels/common/pdl.cuh"

namespace flashrt {

namespace {

constexpr int kRows = 64, kThreads = 128;  // packed query rows of a block, 16 per warp

// Width: head_dim rounded up to an instance; Keys: keys per tile. Shared rows are padded by 16 bytes against
// conflicts.
template <class T, int Width, int Keys>
struct AttentionMma {
  static constexpr int kRowBytes = (Width + 8) * 2;
  static constexpr int kTileBytes = Keys * kRowBytes;
  static constexpr int kOut = Width / 8, kScores = Keys / 8;  // fragments of 8 columns

  const AttentionTileParams& p;
  uint32_t smem;  // queries, then two stages of keys and values
  int first_row, kv_head, segment, group;

  __device__ uint32_t key_tile(int step) const {
    return smem + kRows * kRowBytes + step % 2 * 2 * kTileBytes;
  }
  __device__ uint32_t value_tile(int step) const { return key_tile(step) + kTileBytes; }

  // Count rows of `from` from column `col` on; row_of gives the matrix row or −1, which is filled with zeros.
  template <int Count, class RowOf>
  __device__ void load_tile(uint32_t tile, const Source& from, RowOf row_of) const {
    constexpr int kChunks = Width / 8;
    for (int item = int(threadIdx.x); item < Count * kChunks; item += kThreads) {
      const int j = item / kChunks, chunk = item % kChunks;
      const int64_t at = row_of(j);
      const bool inside = at >= 0 && chunk * 8 < p.head_dim;
      const T* data = static_cast<const T*>(from.data);
      copy_async_16(tile + j * kRowBytes + chunk * 16, inside ? data + at + chunk * 8 : data,
                    inside ? 16 : 0);
    }
  }
  // Packed row i is head i % group of row i / group.
  __device__ void load_queries() const {
    load_tile<kRows>(smem, p.q, [&](int i) -> int64_t {
      const int r = (first_row + i) / group, h = kv_head * group + (first_row + i) % group;
      return r < p.rows ? (int64_t(segment) * p.rows + r) * p.q.stride + int64_t(h) * p.head_dim : -1;
    });
  }
  __device__ void load_keys(int step, int keys) const {
    const auto rows = [&](int64_t stride) {
      return [this, step, keys, stride](int j) -> int64_t {
        const int key = step * Keys + j;
        return key < keys ? (int64_t(segment) * p.capacity + key) * stride + int64_t(kv_head) * p.head_dim
                          : -1;
      };
    };
    load_tile<Keys>(key_tile(step), p.k, rows(p.k.stride));
    load_tile<Keys>(value_tile(step), p.v, rows(p.v.stride));
  }

  // scores [16, Keys] = q · kᵀ of this warp's rows.
  __device__ void multiply_keys(int step, float (&scores)[kScores][4]) const {
    const int lane = int(threadIdx.x % 32), row = int(threadIdx.x / 32) * 16 + lane % 16;
#pragma unroll
    for (int j = 0; j < kScores; ++j) scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0.f;
#pragma unroll
    for (int c = 0; c < Width / 16; ++c) {
      uint32_t q[4];
      ldmatrix_x4(smem + row * kRowBytes + (c * 2 + lane / 16) * 16, q);
#pragma unroll
      for (int j = 0; j < kScores; j += 2) {
        uint32_t k[4];
        ldmatrix_x4(
            key_tile(step) + (j * 8 + lane / 16 * 8 + lane % 8) * kRowBytes + (c * 2 + lane / 8 % 2) * 16, k);
        mma_16816<T>(scores[j], q, k[0], k[1]);
        mma_16816<T>(scores[j + 1], q, k[2], k[3]);
      }
    }
  }

  // out [16, Width] += weights · v; the weights are the scores' fragments, rounded to T.
  __device__ void multiply_values(int step, const float (&weight)[kScores][4], float (&out)[kOut][4]) const {
    const int lane = int(threadIdx.x % 32);
#pragma unroll
    for (int c = 0; c < Keys / 16; ++c) {
      const float(&lo)[4] = weight[2 * c], (&hi)[4] = weight[2 * c + 1];
      const uint32_t a[4] = {pack2<T>(lo[0], lo[1]), pack2<T>(lo[2], lo[3]), pack2<T>(hi[0], hi[1]),
                             pack2<T>(hi[2], hi[3])};
#pragma unroll
      for (int j = 0; j < kOut; j += 2) {
        uint32_t v[4];
        ldmatrix_x4_trans(value_tile(step) + (c * 16 + lane % 16) * kRowBytes + (j + lane / 16) * 16, v);
        mma_16816<T>(out[j], a, v[0], v[1]);
        mma_16816<T>(out[j + 1], a, v[2], v[3]);
      }
    }
  }

  // Masks, and replaces the scores of one row (two columns of each fragment) by exp2(score − top); rescales
  // out, sum.
  __device__ static void soften(float (&s)[kScores][4], float (&out)[kOut][4], int row_half, int first_key,
                                int begin, int visible, float scale, float& top, float& sum) {
    const int t = int(threadIdx.x) % 4;
    float best = top;
#pragma unroll
    for (int j = 0; j < kScores; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& v = s[j][row_half * 2 + e];
        const int key = first_key + j * 8 + t * 2 + e;
        v = key < visible && key >= begin ? v * scale : -INFINITY;
        best = fmaxf(best, v);
      }
    }
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
    const float base = best == -INFINITY ? 0.f : best, kept = exp2f(top - base);
    top = best;
    sum *= kept;
#pragma unroll
    for (int j = 0; j < kScores; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& v = s[j][row_half * 2 + e];
        v = exp2f(v - base);
        sum += v;
      }
    }
#pragma unroll
    for (int j = 0; j < kOut; ++j) out[j][row_half * 2] *= kept, out[j][row_half * 2 + 1] *= kept;
  }

  __device__ void run() const {
    const int g = int(threadIdx.x % 32) / 4, t = int(threadIdx.x) % 4;
    const int packed_row = first_row + int(threadIdx.x / 32) * 16 + g;  // and + 8
    pdl_launch();
    pdl_wait();
    const int keys = existing_keys(p);
    const int last_row = min(p.rows - 1, (first_row + kRows - 1) / group);
    const int tile_keys = visible_keys(p, last_row, keys);
    const int visible[2] = {visible_keys(p, packed_row / group, keys),
                            visible_keys(p, (packed_row + 8) / group, keys)};
    const int begin[2] = {first_visible_key(p, visible[0]), first_visible_key(p, visible[1])};
    const int steps = (tile_keys + Keys - 1) / Keys;
    const int first_step = first_visible_key(p, visible_keys(p, first_row / group, keys)) / Keys;

    if (steps > first_step) {
      load_queries();
      load_keys(first_step, tile_keys);
    }
    copy_async_commit();
    float out[kOut][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int step = first_step; step < steps; ++step) {
      if (step + 1 < steps) load_keys(step + 1, tile_keys);
      copy_async_commit();
      copy_async_wait<1>();
      __syncthreads();
      float scores[kScores][4];
      multiply_keys(step, scores);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        soften(scores, out, half, step * Keys, begin[half], min(visible[half], tile_keys),
               p.scale * 1.44269504089f, top[half], sum[half]);
      }
      multiply_values(step, scores, out);
      __syncthreads();  // the stage is refilled in the next step
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
      sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
      const float inverse =
          sum[half] == 0.f ? 0.f : 1.f / sum[half];  // a row that sees nothing is 0; NaN stays NaN
      const int i = packed_row + half * 8, r = i / group, h = kv_head * group + i % group;
      if (r >= p.rows) continue;
      const size_t at = (size_t(segment) * p.rows + r) * p.out.stride + size_t(h) * p.head_dim;
#pragma unroll
      for (int j = 0; j < kOut; ++j) {
        if (j * 8 >= p.head_dim) break;
        store_two(p.out.data, p.out.type, at + j * 8 + t * 2, out[j][half * 2] * inverse,
                  out[j][half * 2 + 1] * inverse);
      }
    }
  }
};

}  // namespace

// grid: (⌈rows·group / 64⌉, kv_heads, segments)
#define FLASHRT_ATTENTION_MMA(name, T, width, keys)                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                     \
      attention_mma_##name##_##width(const __grid_constant__ AttentionTileParams p) {                        \
    extern __shared__ __align__(128) unsigned char tiles[];                                                  \
    AttentionMma<T, width, keys>{                                                                            \
        p, smem_u32(tiles), int(blockIdx.x) * kRows, int(blockIdx.y), int(blockIdx.z), p.heads / p.kv_heads} \
        .run();                                                                                              \
  }
#define FLASHRT_ATTENTION_MMA_ALL(name, T) \
  FLASHRT_ATTENTION_MMA(name, T, 64, 64)   \
  FLASHRT_ATTENTION_MMA(name, T, 80, 64)   \
  FLASHRT_ATTENTION_MMA(name, T, 128, 64)  \
  FLASHRT_ATTENTION_MMA(name, T, 256, 32)
FLASHRT_ATTENTION_MMA_ALL(bf16, __nv_bfloat16)
FLASHRT_ATTENTION_MMA_ALL(f16, __half)

}  // namespace flashrt
