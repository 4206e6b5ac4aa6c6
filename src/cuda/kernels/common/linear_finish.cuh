// What follows the matrix product in the portable linear kernels: bias, activation, gate and residual, in
// f32.
#pragma once
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/tile_params.h"

namespace flashrt {

// Columns of the result: half the rows of w for a pair.
__device__ __forceinline__ int result_width(const LinearTileParams& p) { return p.pair ? p.n / 2 : p.n; }

// Row of w that a tile's row j multiplies with, from result column `first` on. A pair interleaves `Unit` gate
// rows with their `Unit` up rows, so that one thread holds both. −1 beyond the matrix.
template <int Unit>
__device__ __forceinline__ int weight_row(const LinearTileParams& p, int first, int j) {
  if (!p.pair) return first + j < p.n ? first + j : -1;
  const int column = first + j / (2 * Unit) * Unit + j % Unit;
  if (column >= p.n / 2) return -1;
  return j / Unit % 2 == 0 ? column : p.n / 2 + column;
}

// The result at (row, column) before rounding, from the products of gate and, for a pair, up.
__device__ __forceinline__ float finish_value(const LinearTileParams& p, int row, int column, float v,
                                              float up) {
  if (p.bias.data != nullptr) v += load_element(p.bias.data, p.bias.type, column);
  v = point_function(p.function, v);
  if (p.pair) {
    if (p.bias.data != nullptr) up += load_element(p.bias.data, p.bias.type, p.n / 2 + column);
    v *= up;
  }
  if (p.gate.data != nullptr) v *= load_element(p.gate.data, p.gate.type, column);
  if (p.residual.data != nullptr) {
    v += load_element(p.residual.data, p.residual.type, size_t(row % p.period) * p.residual.stride + column);
  }
  return v;
}

__device__ __forceinline__ void finish_element(const LinearTileParams& p, int row, int column, float v,
                                               float up) {
  if (row >= p.m || column >= result_width(p)) return;
  store_element(p.y.data, p.y.type, size_t(row) * p.y.stride + column, finish_value(p, row, column, v, up));
}

// Columns `column` (even) and column + 1.
__device__ __forceinline__ void finish_two(const LinearTileParams& p, int row, int column,
                                           const float (&v)[2], const float (&up)[2]) {
  if (row >= p.m || column >= result_width(p)) return;
  const size_t at = size_t(row) * p.y.stride + column;
  const float a = finish_value(p, row, column, v[0], up[0]);
  if (column + 1 == result_width(p)) return store_element(p.y.data, p.y.type, at, a);
  const float b = finish_value(p, row, column + 1, v[1], up[1]);
  if (p.y.stride % 2 == 0) {
    store_two(p.y.data, p.y.type, at, a, b);
  } else {
    store_element(p.y.data, p.y.type, at, a);
    store_element(p.y.data, p.y.type, at + 1, b);
  }
}

}  // namespace flashrt
