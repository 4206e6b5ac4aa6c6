// Row normalisation: one block per row, the row's first packs held in registers, two-pass statistics in f32.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/reduce.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void __launch_bounds__(1024) norm_rows(const __grid_constant__ NormParams p) {
  __shared__ float partial[32];
  pdl_launch();
  pdl_wait();
  const size_t row = blockIdx.x;
  const int first = int(threadIdx.x) * kPack, step = int(blockDim.x) * kPack;
  float held[kPack];
  const auto load = [&](float(&v)[kPack], int c) {
    load_pack(v, p.x.data, p.x.type, row * p.x.stride + c, max(0, min(kPack, p.cols - c)), p.packed);
  };
  load(held, first);
  // f(v, c, count) for every pack of this thread; packs beyond the first are read again.
  const auto each = [&](auto&& f) {
    if (first < p.cols) f(held, first, min(kPack, p.cols - first));
    for (int c = first + step; c < p.cols; c += step) {
      float v[kPack];
      load(v, c);
      f(v, c, min(kPack, p.cols - c));
    }
  };

  float mean = 0.f;
  if (p.rule == NormRule::layer) {
    float sum = 0.f;
    each([&](float(&v)[kPack], int, int) {
#pragma unroll
      for (int j = 0; j < kPack; ++j) sum += v[j];
    });
    mean = block_total(sum, partial) / float(p.cols);
  }
  float squares = 0.f;
  each([&](float(&v)[kPack], int, int count) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const float d = j < count ? v[j] - mean : 0.f;
      squares = fmaf(d, d, squares);
    }
  });
  const float inverse = 1.f / sqrtf(block_total(squares, partial) / float(p.cols) + p.eps);
  const float one = p.rule == NormRule::layer ? 0.f : 1.f;
  each([&](float(&v)[kPack], int c, int count) {
    float scale[kPack], shift[kPack] = {}, y[kPack];
    load_pack(scale, p.scale.data, p.scale.type, c, count, p.packed);
    if (p.shift.data != nullptr) load_pack(shift, p.shift.data, p.shift.type, c, count, p.packed);
#pragma unroll
    for (int j = 0; j < kPack; ++j) y[j] = (v[j] - mean) * inverse * (one + scale[j]) + shift[j];
    store_pack(p.y.data, p.y.type, row * p.y.stride + c, y, count, p.packed);
  });
}

}  // namespace flashrt
