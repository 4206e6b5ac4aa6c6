// Pointwise activations and gated pairs: one thread per 8 results.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"

namespace flashrt {

extern "C" __global__ void activation_rows(const __grid_constant__ ActivationParams p) {
  pdl_launch();
  pdl_wait();
  const PackPlace at = pack_place(p.rows, p.cols);
  if (!at.inside) return;
  const size_t from = size_t(at.row) * p.x.stride + at.col;
  float x[kPack], up[kPack];
  load_pack(x, p.x.data, p.x.type, from, at.count, p.packed);
  if (p.pair) load_pack(up, p.x.data, p.x.type, from + p.cols, at.count, p.packed);
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    x[j] = point_function(p.function, x[j]);
    if (p.pair) x[j] *= up[j];
  }
  store_pack(p.y.data, p.y.type, size_t(at.row) * p.y.stride + at.col, x, at.count, p.packed);
}

}  // namespace flashrt
