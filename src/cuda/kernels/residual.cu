// The residual addition, with an optional gate and a repeating x: one thread per 8 results.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void residual_rows(const __grid_constant__ ResidualParams p) {
  pdl_launch();
  pdl_wait();
  const PackPlace at = pack_place(p.rows, p.cols);
  if (!at.inside) return;
  float x[kPack], y[kPack], gate[kPack];
  load_pack(x, p.x.data, p.x.type, size_t(at.row % p.period) * p.x.stride + at.col, at.count, p.packed);
  load_pack(y, p.y.data, p.y.type, size_t(at.row) * p.y.stride + at.col, at.count, p.packed);
  if (p.gate.data != nullptr) load_pack(gate, p.gate.data, p.gate.type, at.col, at.count, p.packed);
#pragma unroll
  for (int j = 0; j < kPack; ++j) x[j] = fmaf(p.gate.data != nullptr ? gate[j] : 1.f, y[j], x[j]);
  store_pack(p.out.data, p.out.type, size_t(at.row) * p.out.stride + at.col, x, at.count, p.packed);
}

}  // namespace flashrt
