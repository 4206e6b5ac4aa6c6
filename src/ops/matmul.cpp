// Blocks of w are widened to f32 once and multiplied with every row of x, 4 × 4 dot products at a time.
#include "ops/matmul.h"

#include <algorithm>

#include "base/threads.h"

#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FLASHRT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FLASHRT_CLONES
#endif

namespace flashrt {

namespace {

constexpr int kLanes = 16;
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

// Halves the vector four times: four additions instead of fifteen.
inline __attribute__((always_inline)) float sum(const Lanes& v) {
  Lanes s = v + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  s += __builtin_shufflevector(s, s, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  s += __builtin_shufflevector(s, s, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return s[0] + s[1];
}

// y[i·y_stride + j] = x_i · w_j for R rows of x and C rows of w.
template <int R, int C>
inline __attribute__((always_inline)) void tile(const float* x, int64_t x_stride, const float* w, int64_t k,
                                                float* y, int64_t y_stride) {
  Lanes acc[R][C] = {};
  int64_t c = 0;
  for (; c + kLanes <= k; c += kLanes) {
    Lanes b[C];
    for (int j = 0; j < C; ++j) b[j] = *reinterpret_cast<const Lanes*>(w + j * k + c);
    for (int i = 0; i < R; ++i) {
      const Lanes a = *reinterpret_cast<const Lanes*>(x + i * x_stride + c);
      for (int j = 0; j < C; ++j) acc[i][j] += a * b[j];
    }
  }
  for (int i = 0; i < R; ++i) {
    for (int j = 0; j < C; ++j) {
      float s = sum(acc[i][j]);
      for (int64_t t = c; t < k; ++t) s += x[i * x_stride + t] * w[j * k + t];
      y[i * y_stride + j] = s;
    }
  }
}

// y[i, 0 … 15] = x_i · w for R rows of x and 16 rows of w, given as columns [k, 16].
template <int R>
inline __attribute__((always_inline)) void column_tile(const float* x, int64_t x_stride, const float* columns,
                                                       int64_t k, float* y, int64_t y_stride) {
  Lanes acc[R] = {};
  for (int64_t c = 0; c < k; ++c) {
    const Lanes w = *reinterpret_cast<const Lanes*>(columns + c * kLanes);
    for (int i = 0; i < R; ++i) acc[i] += x[i * x_stride + c] * w;
  }
  for (int i = 0; i < R; ++i) *reinterpret_cast<Lanes*>(y + i * y_stride) = acc[i];
}

// The same product for many rows: turning the block on its side once spares the sums across lanes.
FLASHRT_CLONES void multiply_columns(const float* x, int64_t rows, int64_t x_stride, const float* columns,
                                     int64_t k, float* y, int64_t y_stride) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8)
    column_tile<8>(x + i * x_stride, x_stride, columns, k, y + i * y_stride, y_stride);
  for (; i < rows; ++i) column_tile<1>(x + i * x_stride, x_stride, columns, k, y + i * y_stride, y_stride);
}

// All rows of x against `count` widened rows of w.
FLASHRT_CLONES void multiply_block(const float* x, int64_t rows, int64_t x_stride, const float* w,
                                   int64_t count, int64_t k, float* y, int64_t y_stride) {
  int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      tile<4, 4>(x + i * x_stride, x_stride, w + j * k, k, y + i * y_stride + j, y_stride);
    }
    for (; i < rows; ++i)
      tile<1, 4>(x + i * x_stride, x_stride, w + j * k, k, y + i * y_stride + j, y_stride);
  }
  for (; j < count; ++j) {
    for (int64_t i = 0; i < rows; ++i) {
      tile<1, 1>(x + i * x_stride, x_stride, w + j * k, k, y + i * y_stride + j, y_stride);
    }
  }
}

FLASHRT_CLONES void widen_bf16(const uint16_t* from, int64_t n, float* to) {
  auto* bits = reinterpret_cast<uint32_t*>(to);
  for (int64_t i = 0; i < n; ++i) bits[i] = uint32_t{from[i]} << 16;
}

FLASHRT_CLONES float dot_clones(const float* a, const float* b, int64_t n) {
  float y;
  tile<1, 1>(a, 0, b, n, &y, 0);
  return y;
}

FLASHRT_CLONES void add_scaled_clones(float* y, const float* x, float s, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += s * x[i];
}

void round_to(DType type, int64_t n, float* values) {
  if (type != DType::bf16 && type != DType::f16) return;
  for (int64_t i = 0; i < n; ++i) {
    values[i] = type == DType::bf16 ? bf16_to_f32(f32_to_bf16(values[i])) : f16_to_f32(f32_to_f16(values[i]));
  }
}

void widen_row(const Weight::Part& part, int64_t row, int64_t k, float* to) {
  const std::byte* from = part.data + size_t(row * part.stride) * size_of(part.dtype);
  if (part.dtype == DType::bf16 && reinterpret_cast<uintptr_t>(from) % 2 == 0) {
    widen_bf16(reinterpret_cast<const uint16_t*>(from), k, to);
  } else if (part.dtype == DType::f32) {
    std::memcpy(to, from, size_t(k) * sizeof(float));
  } else {
    for (int64_t c = 0; c < k; ++c) to[c] = load_float(from, part.dtype, size_t(c));
  }
}

// Rows [row, row + count) as f32.
void widen(const Weight::Part& part, int64_t row, int64_t count, int64_t k, DType rounded, float* to) {
  if (part.packed != nullptr)
    quant::decode(*part.packed, part.first + row, count, to);
  else
    for (int64_t j = 0; j < count; ++j) widen_row(part, row + j, k, to + j * k);
  if (part.factor != nullptr) {
    for (int64_t j = 0; j < count; ++j) part.factor->apply(to + j * k);
  }
  if (part.packed != nullptr || part.factor != nullptr || rounded != part.dtype)
    round_to(rounded, count * k, to);
}

}  // namespace

float dot(const float* a, const float* b, int64_t n) { return dot_clones(a, b, n); }
void add_scaled(float* y, const float* x, float s, int64_t n) { add_scaled_clones(y, x, s, n); }

void matmul_transposed(const float* x, int64_t rows, int64_t x_stride, const Weight& w, DType rounded,
                       float* y) {
  const int64_t k = w.shape.cols, n = w.shape.rows;
  constexpr int64_t kBlock = kLanes, kManyRows = 24, kStackFloats = 1 << 16;
  int64_t first = 0;
  for (const Weight::Part& part : w.parts) {
    parallel_for((part.rows + kBlock - 1) / kBlock, 1, [&](int64_t begin, int64_t end) {
      // On the stack as far as it goes: which thread gets a range must not decide who allocates.
      alignas(64) float on_stack[kStackFloats];
      const int64_t floats = 2 * kBlock * k;
      float* block = floats > kStackFloats ? thread_scratch(floats) : on_stack;
      for (int64_t b = begin; b < end; ++b) {
        const int64_t row = b * kBlock, count = std::min(kBlock, part.rows - row);
        widen(part, row, count, k, rounded, block);
        if (rows < kManyRows || count < kBlock) {
          multiply_block(x, rows, x_stride, block, count, k, y + first + row, n);
          continue;
        }
        float* columns = block + kBlock * k;
        for (int64_t c = 0; c < k; ++c) {
          for (int64_t j = 0; j < kBlock; ++j) columns[c * kBlock + j] = block[j * k + c];
        }
        multiply_columns(x, rows, x_stride, columns, k, y + first + row, n);
      }
    });
    first += part.rows;
  }
}

}  // namespace flashrt
