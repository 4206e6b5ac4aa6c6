// Copies of rows between element types: append, split and concat.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void copy_rows(const __grid_constant__ CopyParams p) {
  pdl_launch();
  pdl_wait();
  const PackPlace at = pack_place(p.rows, p.cols);
  if (!at.inside) return;
  const int64_t row = int64_t(at.row) + (p.position != nullptr ? *p.position : 0);
  if (row < 0 || row >= p.capacity) return;
  float v[kPack];
  load_pack(v, p.x.data, p.x.type, size_t(at.row) * p.x.stride + at.col, at.count, p.packed);
  store_pack(p.y.data, p.y.type, size_t(row) * p.y.stride + at.col, v, at.count, p.packed);
}

}  // namespace flashrt
