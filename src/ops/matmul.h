// The CPU's matrix product, the one place where the definitions trade plainness for speed.
#pragma once

#include <cstdint>

#include "tape/tensor.h"

namespace flashrt {

// y[r, j] = Σ_c x[r, c] · w[j, c] for the matrix `w` as stored, accumulated in f32. x is [rows, x_stride] and
// may be wider than w; y is [rows, w.shape.rows]. With `rounded` bf16 or f16, w is rounded to that type
// first.
void matmul_transposed(const float* x, int64_t rows, int64_t x_stride, const Weight& w, DType rounded,
                       float* y);

// Σ_c a[c]·b[c]; y += s·x.
float dot(const float* a, const float* b, int64_t n);
void add_scaled(float* y, const float* x, float s, int64_t n);

}  // namespace flashrt
