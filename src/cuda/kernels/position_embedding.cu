// Learned positions added to the embedded tokens: one thread per 8 results.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void position_embedding_rows(const __grid_constant__ PositionEmbeddingParams p) {
  pdl_launch();
  pdl_wait();
  const PackPlace at = pack_place(p.rows, p.cols);
  if (!at.inside) return;
  const int64_t row = int64_t(at.row) + (p.position != nullptr ? *p.position : 0);
  float x[kPack], add[kPack];
  load_pack(x, p.x.data, p.x.type, size_t(at.row) * p.x.stride + at.col, at.count, p.packed);
  const bool inside = row >= 0 && row < p.positions;
  if (inside)
    load_pack(add, p.table.data, p.table.type, size_t(row) * p.table.stride + at.col, at.count, p.packed);
#pragma unroll
  for (int j = 0; j < kPack; ++j) x[j] = inside ? x[j] + add[j] : __int_as_float(0x7fffffff);  // NaN
  store_pack(p.y.data, p.y.type, size_t(at.row) * p.y.stride + at.col, x, at.count, p.packed);
}

}  // namespace flashrt
