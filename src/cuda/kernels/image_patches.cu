// Images cut into patches: one thread per 8 columns of a patch's row.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void image_patches_rows(const __grid_constant__ PatchParams p) {
  pdl_launch();
  pdl_wait();
  const PackPlace at = pack_place(p.rows, p.cols);
  if (!at.inside) return;
  const int grid = p.size / p.patch, area = p.patch * p.patch;
  const int view = int(at.row) / (grid * grid), gy = int(at.row) / grid % grid, gx = int(at.row) % grid;
  float v[kPack];
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const int c = at.col + j, channel = c / area, within = c % area;
    const int y = gy * p.patch + within / p.patch, x = gx * p.patch + within % p.patch;
    v[j] = 0.f;
    if (channel >= 3) continue;  // columns up to the multiple of 8
    if (p.bytes) {
      const size_t pixel = (size_t(view) * p.size + y) * p.size + x;
      v[j] = float(static_cast<const uint8_t*>(p.image)[pixel * 3 + channel]) / 255.f * 2.f - 1.f;
    } else {
      v[j] = static_cast<const float*>(p.image)[((size_t(view) * 3 + channel) * p.size + y) * p.size + x];
    }
  }
  store_pack(p.y.data, p.y.type, size_t(at.row) * p.y.stride + at.col, v, kPack,
             true);  // cols are whole packs
}

}  // namespace flashrt
