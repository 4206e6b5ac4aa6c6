// Sine and cosine features of a time, with f64 or f32 arguments: one thread per frequency.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

namespace {

template <class Real>
__device__ float2 sine_and_cosine(const TimeEmbeddingParams& p, int i, float t) {
  const Real low = Real(p.min_period), high = Real(p.max_period);
  const Real fraction = p.half > 1 ? Real(i) / Real(p.half - 1) : Real(0);
  const Real period = low * pow(high / low, fraction);
  const Real argument = Real(1) / period * Real(2) * Real(3.141592653589793) * Real(t);
  return make_float2(float(sin(argument)), float(cos(argument)));
}

}  // namespace

extern "C" __global__ void time_embedding_rows(const __grid_constant__ TimeEmbeddingParams p) {
  pdl_launch();
  pdl_wait();
  const int index = int(blockIdx.x * blockDim.x + threadIdx.x), row = index / p.half, i = index % p.half;
  if (row >= p.rows) return;
  const float2 v =
      p.in_double ? sine_and_cosine<double>(p, i, p.t[row]) : sine_and_cosine<float>(p, i, p.t[row]);
  store_element(p.y.data, p.y.type, size_t(row) * p.y.stride + i, v.x);
  store_element(p.y.data, p.y.type, size_t(row) * p.y.stride + p.half + i, v.y);
}

}  // namespace flashrt
