// Element types and matrix views as kernels take them; plain data, shared by host and device code.
#pragma once
#include <cstdint>

namespace flashrt {

enum class Element : int { f32, bf16, f16 };

// A row-major matrix of any element type; stride in elements. data is null for an absent operand.
struct Source {
  const void* data;
  int64_t stride;
  Element type;
};
struct Target {
  void* data;
  int64_t stride;
  Element type;
};

}  // namespace flashrt
