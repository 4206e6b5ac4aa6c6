// How the tables of implementations describe a problem's operands to kernels.
#pragma once

#include <algorithm>

#include "cuda/implementation.h"
#include "cuda/kernels/common/element.h"

namespace flashrt::cuda {

constexpr bool is_element(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; }
constexpr bool is_half(DType t) { return t == DType::bf16 || t == DType::f16; }
constexpr Element element_of(DType t) {
  return t == DType::bf16 ? Element::bf16 : t == DType::f16 ? Element::f16 : Element::f32;
}

// Operand i from column `col` on; data is null when it is absent.
inline Source source(const Problem& p, size_t i, int64_t col = 0) {
  if (!p.has(i)) return {nullptr, 0, Element::f32};
  return {p.in_data<const std::byte>(i) + col * int64_t(size_of(p.in_type(i))), p.in_stride(i),
          element_of(p.in_type(i))};
}
inline Target target(const Problem& p, size_t j) {
  return {p.out_data<void>(j), p.out(j).cols, element_of(p.out_type(j))};
}

// Every present operand from `first` on, and every result, has an element type kernels can read and write.
inline bool elements_only(const Problem& p, size_t first = 0) {
  for (size_t i = first; i < p.line.in.size(); ++i) {
    if (p.has(i) && !is_element(p.in_type(i))) return false;
  }
  for (size_t j = 0; j < p.line.out.size(); ++j) {
    if (!is_element(p.out_type(j))) return false;
  }
  return true;
}

// Rows of all these widths start on 16 bytes, since every tensor does.
template <class... Widths>
constexpr bool packed(Widths... widths) {
  return ((widths % 8 == 0) && ...);
}

// The grid of `threads`-wide blocks with a thread per item; per pack of 8 columns of a row.
inline dim3 grid_of(int64_t items, int threads = 256) {
  return dim3(unsigned((items + threads - 1) / threads));
}
inline dim3 grid_of_packs(int64_t rows, int64_t cols, int threads = 256) {
  return grid_of(rows * ((cols + 7) / 8), threads);
}

}  // namespace flashrt::cuda
