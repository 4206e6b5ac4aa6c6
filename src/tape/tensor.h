// Tensor handles, weights and the source position of a recorded line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "quant/packed.h"

namespace flashrt {

class Program;

// Every tensor is a matrix [rows, cols], row-major and contiguous; images are [views, pixels·channels].
struct Shape {
  int64_t rows = 0, cols = 0;
  int64_t size() const { return rows * cols; }
  bool operator==(const Shape&) const = default;
};

// A handle into the program that recorded it. A default-constructed handle means "absent".
struct Tensor {
  Program* program = nullptr;
  int id = -1;

  explicit operator bool() const { return id >= 0; }
  Shape shape() const;
  int64_t rows() const { return shape().rows; }
  int64_t cols() const { return shape().cols; }
  DType dtype() const;
};

// A matrix of the checkpoint: parts stacked along rows (q over k over v), or a column range of one part.
// Nothing is copied; the parts point into the mapped file. A vector is [1, n].
struct Weight {
  // What a norm's weight leaves to the matrix behind it: column c is multiplied by values[c]; then, when
  // `centred`, every row's mean over its columns is subtracted, so that a constant added to the input adds
  // nothing.
  struct ColumnFactor {
    std::vector<float> values;
    bool centred = false;
    void apply(float* row) const;
  };
  struct Part {
    const std::byte* data = nullptr;  // row 0, column 0 of the part
    DType dtype = DType::f32;
    int64_t rows = 0;
    int64_t stride = 0;                            // elements between rows
    std::shared_ptr<const quant::Packed> packed;   // else plain elements; then data are its codes
    int64_t first = 0;                             // the row of `packed` where the part begins
    std::shared_ptr<const ColumnFactor> factor;    // what is stored times this is meant; null: as stored
    Part slice(int64_t begin, int64_t end) const;  // rows [begin, end) of the part
  };
  std::string name;
  Shape shape;
  std::vector<Part> parts;

  // The packed format, when every part has the same one, stored regularly. Else values are computed with as
  // plain elements of the program's type.
  std::optional<quant::Format> format() const;
  size_t packed_bytes() const;  // of the packed parts
};

// Where in the model's text a line was recorded.
struct At {
  const char* file = "";
  int line = 0;
  static At current(std::source_location where = std::source_location::current()) {
    return {where.file_name(), int(where.line())};
  }
};
std::string to_string(At at);  // "pi0.cpp:45"

}  // namespace flashrt
