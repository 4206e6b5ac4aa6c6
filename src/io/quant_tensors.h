// The stored tensors of a quantised matrix, checked and joined.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/quant_config.h"
#include "io/safetensors.h"
#include "quant/packed.h"

namespace flashrt {

struct QuantMatrix {
  std::shared_ptr<const quant::Packed> packed;  // null: the matrix is stored with plain elements
  std::vector<std::string> tensors;  // the stored names it is made of, and those of its activations
};

// The matrix called `name` ("… .weight"), [rows, cols], in what the method stores for it. Throws Error(input)
// naming the file, the tensor, what was expected and what was found. Views into `store`.
QuantMatrix find_quant_matrix(const TensorStore& store, const QuantConfig& config, const std::string& name,
                              int64_t rows, int64_t cols);

}  // namespace flashrt
