// Rows of a table by index: one thread per 8 results.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void embedding_rows(const __grid_constant__ EmbeddingParams p) {
  pdl_launch();
  pdl_wait();
  const PackPlace at = pack_place(p.rows, p.cols);
  if (!at.inside) return;
  const int id = p.ids[at.row];
  float v[kPack];
  if (id >= 0 && id < p.vocabulary) {
    load_pack(v, p.table.data, p.table.type, size_t(id) * p.table.stride + at.col, at.count, p.packed);
#pragma unroll
    for (int j = 0; j < kPack; ++j) v[j] *= p.scale;
  } else {
#pragma unroll
    for (int j = 0; j < kPack; ++j) v[j] = __int_as_float(0x7fffffff);  // NaN
  }
  store_pack(p.y.data, p.y.type, size_t(at.row) * p.y.stride + at.col, v, at.count, p.packed);
}

}  // namespace flashrt
