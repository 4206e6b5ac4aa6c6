// Rotary embedding, alone or with the split of q | k | v and the append to the caches: one thread per pair.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void rope_rows(const __grid_constant__ RopeParams p) {
  pdl_launch();
  pdl_wait();
  const uint32_t half = uint32_t(p.head_dim) / 2, heads = uint32_t(p.heads[0] + p.heads[1] + p.heads[2]);
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t i = index % half, row = index / half / heads;
  int head = int(index / half % heads);
  if (row >= uint32_t(p.rows)) return;
  const int64_t position = int64_t(row) + (p.position != nullptr ? *p.position : 0);

  const size_t from = size_t(row) * p.x.stride + size_t(head) * p.head_dim + i;
  float a = load_element(p.x.data, p.x.type, from), b = load_element(p.x.data, p.x.type, from + half);
  if (head < p.rotated_heads) {
    const int64_t entry = max(int64_t(0), min(int64_t(p.positions) - 1, position));
    const float2 turn = *reinterpret_cast<const float2*>(p.table + entry * p.head_dim + 2 * i);  // cos, sin
    const float turned = a * turn.x - b * turn.y;
    b = b * turn.x + a * turn.y;
    a = turned;
  }
  int part = 0;
  while (part < 2 && head >= p.heads[part]) head -= p.heads[part++];
  const int64_t to_row = part == 0 ? int64_t(row) : position;
  if (part > 0 && (to_row < 0 || to_row >= p.capacity)) return;
  const Target& y = part == 0 ? p.y[0] : part == 1 ? p.y[1] : p.y[2];
  const size_t to = size_t(to_row) * y.stride + size_t(head) * p.head_dim + i;
  store_element(y.data, y.type, to, a);
  store_element(y.data, y.type, to + half, b);
}

}  // namespace flashrt
