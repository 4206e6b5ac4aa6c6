// A matrix in a packed format, as a checkpoint stores it or as `encode` made it; read row by row.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "base/dtype.h"
#include "quant/format.h"

namespace flashrt::quant {

// Where the code of (row, column) lies.
enum class Order : uint8_t {
  rows,          // row by row; of two nibbles in a byte the low one comes first
  words_down,    // 32-bit words of 8 columns, word (column / 8, row): GPTQ
  words_across,  // 32-bit words of 8 rows, interleaved 0 2 4 6 1 3 5 7, word (column, row / 8): AWQ
};

// value(r, c) = (code(r, c) − zero(r, g)) · scale(r, g), g the group of column c. Views without alignment.
struct Packed {
  Format format = Format::fp8;
  Order order = Order::rows;
  int64_t rows = 0, cols = 0;
  const std::byte* codes = nullptr;
  int64_t code_stride = 0;  // order `rows`: bytes between rows
  bool biased = false;      // int8: stored plus 128

  // scale(r, g) is element (r / scale_rows) · scale_row_stride + g · scale_group_stride of `scales`, and is
  // multiplied with `global`, or divided by it.
  const std::byte* scales = nullptr;
  DType scale_type = DType::f32;  // f32, f16, bf16 or f8_e4m3
  int64_t group = 0;              // columns per scale; the last group may be shorter
  int64_t scale_rows = 1, scale_row_stride = 0, scale_group_stride = 0;
  float global = 1;
  bool global_divides = false;

  // int4. zero(r, g) is nibble r mod 8 of word (r / 8) · zero_row_stride + g · zero_group_stride, plus
  // `zero_plus` modulo 16; without a table it is 8.
  const std::byte* zeros = nullptr;
  int64_t zero_row_stride = 0, zero_group_stride = 0;
  bool zeros_interleaved = false;  // nibbles in the order of `words_across`
  int zero_plus = 0;

  const std::byte* group_of = nullptr;  // i32 [cols]: the group of each column, where they are not in order
  std::shared_ptr<const void> owner;    // of the memory, where it is no mapped file

  int64_t groups() const { return group > 0 ? (cols + group - 1) / group : 0; }
  float scale(int64_t row, int64_t g) const;
  int zero(int64_t row, int64_t g) const;
  int code(int64_t row, int64_t col) const;          // the stored bits
  void read_codes(int64_t row, uint8_t* out) const;  // of a row, one per byte; int8 always plus 128
  bool regular() const;  // one scale per row of bytes, or groups in order whose scales are half types
  size_t bytes(int64_t of_rows) const;  // codes, scales and zeros of so many rows
};

// Rows [row, row + count) as f32 values, [count, cols]: each one product of f32 numbers, rounded once.
void decode(const Packed& packed, int64_t row, int64_t count, float* out);

// Encodes a matrix given row by row, in order `rows` and whole words: fp8, int8 with an f32 scale per row,
// int4 with a bf16 scale per 128 columns, nvfp4. `read(row, out)` is called from several threads, perhaps
// twice per row. Throws Error(input) naming `name` where a value is not finite.
Packed encode(Format format, int64_t rows, int64_t cols, const std::function<void(int64_t, float*)>& read,
              const std::string& name);

}  // namespace flashrt::quant
