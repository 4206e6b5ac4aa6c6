// Attention of any element types in exact f32 arithmetic: a warp per query row and head, online softmax.
#include "cuda/kernels/common/attention_range.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/reduce.cuh"

namespace flashrt {

namespace {
constexpr int kWidest = 256, kPerLane = kWidest / 32, kAtOnce = 4;  // head_dim at most; keys at once
}

// grid: (⌈rows·heads / 4⌉, segments), 4 warps. Lane l holds columns l, l + 32, … of its head.
extern "C" __global__ void __launch_bounds__(128, 4)
    attention_simt(const __grid_constant__ AttentionTileParams p) {
  pdl_launch();
  pdl_wait();
  const int item = int(blockIdx.x * 4 + threadIdx.x / 32), lane = int(threadIdx.x % 32);
  const int r = item / p.heads, h = item % p.heads, segment = int(blockIdx.y);
  if (r >= p.rows) return;
  const int kv_head = h * p.kv_heads / p.heads;
  const int keys = visible_keys(p, r, existing_keys(p));
  const size_t row = size_t(segment) * p.rows + r, first_key = size_t(segment) * p.capacity;

  float q[kPerLane], out[kPerLane] = {};
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane + 32 * i;
    q[i] = c < p.head_dim ? p.scale * load_element(p.q.data, p.q.type, row * p.q.stride + h * p.head_dim + c)
                          : 0.f;
  }
  float top = -INFINITY, sum = 0.f;
  for (int j0 = first_visible_key(p, keys); j0 < keys; j0 += kAtOnce) {
    float logit[kAtOnce] = {};
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (j0 + j >= keys) break;
      const size_t at = (first_key + j0 + j) * p.k.stride + size_t(kv_head) * p.head_dim;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const int c = lane + 32 * i;
        if (c < p.head_dim) logit[j] = fmaf(q[i], load_element(p.k.data, p.k.type, at + c), logit[j]);
      }
    }
    float best = top;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      logit[j] = j0 + j < keys ? warp_total(logit[j]) : -INFINITY;
      best = fmaxf(best, logit[j]);
    }
    const float base = best == -INFINITY ? 0.f : best, kept = expf(top - base);
    top = best;
    sum *= kept;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) out[i] *= kept;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (j0 + j >= keys) break;
      const float weight = expf(logit[j] - base);
      sum += weight;
      const size_t at = (first_key + j0 + j) * p.v.stride + size_t(kv_head) * p.head_dim;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const int c = lane + 32 * i;
        if (c < p.head_dim) out[i] = fmaf(weight, load_element(p.v.data, p.v.type, at + c), out[i]);
      }
    }
  }
  const float inverse = sum == 0.f ? 0.f : 1.f / sum;  // a row that sees nothing is 0; NaN stays NaN
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane + 32 * i;
    if (c < p.head_dim)
      store_element(p.out.data, p.out.type, row * p.out.stride + h * p.head_dim + c, out[i] * inverse);
  }
}

}  // namespace flashrt
