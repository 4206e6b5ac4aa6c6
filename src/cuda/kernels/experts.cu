// A mixture of experts of any element types, in f32: choice, gated pairs, weighted sum; a warp per value.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/experts_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/reduce.cuh"

namespace flashrt {
namespace {

__device__ __forceinline__ float dot_row(const Source& w, int64_t row, const Source& x, int64_t x_row,
                                         int count) {
  float sum = 0.f;
  for (int c = int(threadIdx.x % 32); c < count; c += 32)
    sum = fmaf(load_element(w.data, w.type, row * w.stride + c),
               load_element(x.data, x.type, x_row * x.stride + c), sum);
  return warp_total(sum);
}

__device__ __forceinline__ int64_t warp_index() {
  return (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
}

}  // namespace

// One thread per row: the `used` largest logits, the first of equal ones, and their probabilities.
extern "C" __global__ void experts_choose(const __grid_constant__ ExpertsParams p) {
  pdl_launch();
  pdl_wait();
  const int row = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= p.rows) return;
  const float* logits = p.router + int64_t(row) * p.experts;
  int* chosen = p.chosen + int64_t(row) * p.used;
  float* shares = p.shares + int64_t(row) * p.used;
  float sum = 0.f;
  for (int i = 0; i < p.used; ++i) {
    int best = -1;
    for (int e = 0; e < p.experts; ++e) {
      bool taken = false;
      for (int j = 0; j < i; ++j) taken |= chosen[j] == e;
      if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
    }
    chosen[i] = best;
    sum += shares[i] = expf(logits[best] - logits[chosen[0]]);
  }
  if (!p.normalise) {
    sum = 0.f;
    for (int e = 0; e < p.experts; ++e) sum += expf(logits[e] - logits[chosen[0]]);
  }
  for (int i = 0; i < p.used; ++i) shares[i] /= sum;
}

// A warp per (row, chosen expert, hidden value).
extern "C" __global__ void __launch_bounds__(256) experts_gate_up(const __grid_constant__ ExpertsParams p) {
  pdl_launch();
  pdl_wait();
  const int64_t item = warp_index(), slot = item / p.hidden, row = slot / p.used;
  const int i = int(item % p.hidden);
  if (row >= p.rows) return;
  const int64_t first = int64_t(p.chosen[slot]) * 2 * p.hidden;
  const float gate = dot_row(p.gate_up, first + i, p.x, row, p.width);
  const float up = dot_row(p.gate_up, first + p.hidden + i, p.x, row, p.width);
  if (threadIdx.x % 32 == 0) p.hidden_values[item] = point_function(p.function, gate) * up;
}

// A warp per (row, result column).
extern "C" __global__ void __launch_bounds__(256) experts_down(const __grid_constant__ ExpertsParams p) {
  pdl_launch();
  pdl_wait();
  const int64_t item = warp_index(), row = item / p.width;
  const int column = int(item % p.width);
  if (row >= p.rows) return;
  const Source hidden{p.hidden_values, p.hidden, Element::f32};
  float sum = 0.f;
  for (int i = 0; i < p.used; ++i) {
    const int64_t slot = row * p.used + i;
    const float part = dot_row(p.down, int64_t(p.chosen[slot]) * p.width + column, hidden, slot, p.hidden);
    sum = fmaf(p.shares[slot], part, sum);
  }
  if (threadIdx.x % 32 == 0) store_element(p.y.data, p.y.type, size_t(row) * p.y.stride + column, sum);
}

}  // namespace flashrt
