// Decoding of every order and format, and the encoders.
#include "quant/packed.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/threads.h"
#include "quant/fp8.h"
#include "quant/int4.h"
#include "quant/int8.h"
#include "quant/nvfp4.h"

namespace flashrt::quant {

namespace {

// Nibble r of a word that holds eight interleaved rows.
constexpr int kInterleaved[8] = {0, 4, 1, 5, 2, 6, 3, 7};

uint32_t load_word(const std::byte* words, int64_t i) {
  uint32_t word;
  std::memcpy(&word, words + i * 4, 4);
  return word;
}

// The byte of columns c (even) and c + 1, low nibble first.
uint8_t byte_at(const std::byte* row, int64_t i) { return uint8_t(row[i]); }

// n columns of one group of one row, from column c on.
void decode_run(const Packed& p, int64_t row, int64_t c, int64_t n, float scale, int zero, float* out) {
  const std::byte* codes = p.codes + row * p.code_stride;
  switch (p.format) {
    case Format::fp8:
      for (int64_t i = 0; i < n; ++i) out[i] = kE4m3Values[byte_at(codes, c + i)] * scale;
      return;
    case Format::int8:
      for (int64_t i = 0; i < n; ++i) {
        const uint8_t code = p.biased ? byte_at(codes, c + i) ^ 0x80 : byte_at(codes, c + i);
        out[i] = float(int8_t(code)) * scale;
      }
      return;
    default: break;
  }
  const bool integer = p.format == Format::int4;
  float values[16];
  for (int code = 0; code < 16; ++code) {
    values[code] = integer ? int4_to_f32(code, zero, scale) : kE2m1Values[size_t(code)] * scale;
  }
  int64_t i = 0;
  if (c % 2 != 0 && n > 0) out[i++] = values[byte_at(codes, c / 2) >> 4];
  for (; i + 2 <= n; i += 2) {
    const uint8_t both = byte_at(codes, (c + i) / 2);
    out[i] = values[both & 15], out[i + 1] = values[both >> 4];
  }
  if (i < n) out[i] = values[byte_at(codes, (c + i) / 2) & 15];
}

int64_t group_at(const Packed& p, int64_t col) {
  return p.group_of != nullptr ? int64_t(load_word(p.group_of, col)) : col / p.group;
}

// A few rows at a time: the codes of neighbouring rows share cache lines.
void decode_words(const Packed& p, int64_t row, int64_t count, float* out) {
  constexpr int64_t kRows = 16;
  for (int64_t first = 0; first < count; first += kRows) {
    const int64_t rows = std::min(kRows, count - first);
    int64_t known = -1;
    float scale[kRows];
    int zero[kRows];
    for (int64_t c = 0; c < p.cols; ++c) {
      if (const int64_t g = group_at(p, c); g != known) {
        for (int64_t j = 0; j < rows; ++j) {
          scale[j] = p.scale(row + first + j, g), zero[j] = p.zero(row + first + j, g);
        }
        known = g;
      }
      for (int64_t j = 0; j < rows; ++j) {
        out[(first + j) * p.cols + c] = int4_to_f32(p.code(row + first + j, c), zero[j], scale[j]);
      }
    }
  }
}

float largest_of(const float* values, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

struct Buffers {
  std::vector<std::byte> codes, scales;
};

// One row in its format; nvfp4 needs the divisor of the matrix.
void encode_row(const Packed& p, const float* values, float divisor, std::byte* codes, std::byte* scales) {
  auto* out = reinterpret_cast<uint8_t*>(codes);
  if (bits_of(p.format) == 8) {
    const float largest = largest_of(values, p.cols);
    const float scale = p.format == Format::fp8 ? fp8_scale(largest) : int8_scale(largest);
    std::memcpy(scales, &scale, sizeof scale);
    for (int64_t c = 0; c < p.cols; ++c) {
      out[c] = p.format == Format::fp8 ? f32_to_e4m3(values[c] / scale)
                                       : uint8_t(uint8_t(to_int8(values[c], scale)) ^ 0x80);
    }
    return;
  }
  std::fill_n(out, p.code_stride, uint8_t{0});
  for (int64_t g = 0; g < p.groups(); ++g) {
    const int64_t begin = g * p.group, end = std::min(begin + p.group, p.cols);
    const float largest = largest_of(values + begin, end - begin);
    float scale = 1;
    if (p.format == Format::int4) {
      const uint16_t rounded = f32_to_bf16(int4_scale(largest));
      const uint16_t stored = bf16_to_f32(rounded) > 0 ? rounded : f32_to_bf16(1);
      std::memcpy(scales + g * 2, &stored, 2);
      scale = bf16_to_f32(stored);
    } else {
      const uint8_t stored = nvfp4_block_scale(largest, divisor);
      scales[g] = std::byte(stored);
      scale = e4m3_to_f32(stored) / divisor;
    }
    for (int64_t c = begin; c < end; ++c) {
      const uint8_t code =
          p.format == Format::int4 ? to_int4(values[c], scale) : f32_to_e2m1(values[c] / scale);
      out[c / 2] = uint8_t(out[c / 2] | code << (c % 2 * 4));
    }
  }
}

}  // namespace

float Packed::scale(int64_t row, int64_t g) const {
  const auto i = size_t(row / scale_rows * scale_row_stride + g * scale_group_stride);
  const float stored =
      scale_type == DType::f8_e4m3 ? kE4m3Values[uint8_t(scales[i])] : load_float(scales, scale_type, i);
  return global_divides ? stored / global : stored * global;
}

int Packed::zero(int64_t row, int64_t g) const {
  if (zeros == nullptr) return kInt4Zero;
  const uint32_t word = load_word(zeros, row / 8 * zero_row_stride + g * zero_group_stride);
  const int nibble = zeros_interleaved ? kInterleaved[row % 8] : int(row % 8);
  return (int(word >> (4 * nibble) & 15u) + zero_plus) & 15;
}

int Packed::code(int64_t row, int64_t col) const {
  if (order == Order::words_down) return int(load_word(codes, col / 8 * rows + row) >> (col % 8 * 4) & 15u);
  if (order == Order::words_across) {
    return int(load_word(codes, col * (rows / 8) + row / 8) >> (4 * kInterleaved[row % 8]) & 15u);
  }
  const std::byte* from = codes + row * code_stride;
  if (bits_of(format) == 8) return byte_at(from, col);
  return byte_at(from, col / 2) >> (col % 2 * 4) & 15;
}

void Packed::read_codes(int64_t row, uint8_t* out) const {
  if (order != Order::rows) {
    for (int64_t c = 0; c < cols; ++c) out[c] = uint8_t(code(row, c));
    return;
  }
  const auto* from = reinterpret_cast<const uint8_t*>(codes + row * code_stride);
  if (bits_of(format) == 8) {
    const uint8_t flip = format == Format::int8 && !biased ? 0x80 : 0;
    for (int64_t c = 0; c < cols; ++c) out[c] = from[c] ^ flip;
    return;
  }
  for (int64_t c = 0; c + 1 < cols; c += 2) out[c] = from[c / 2] & 15, out[c + 1] = from[c / 2] >> 4;
  if (cols % 2 != 0) out[cols - 1] = from[cols / 2] & 15;
}

bool Packed::regular() const {
  if (group_of != nullptr) return false;
  if (bits_of(format) == 8) return groups() == 1;
  if (format == Format::nvfp4) return group == 16 && scale_type == DType::f8_e4m3;
  return (group % 32 == 0 || group >= cols) && size_of(scale_type) == 2 && global == 1;
}

size_t Packed::bytes(int64_t of_rows) const {
  const int64_t zero_bytes = zeros != nullptr ? of_rows * groups() / 2 : 0;
  const int64_t scale_count = (of_rows + scale_rows - 1) / scale_rows * groups();
  return size_t(of_rows * cols * bits_of(format) / 8 + zero_bytes) +
         size_t(scale_count) * size_of(scale_type);
}

void decode(const Packed& p, int64_t row, int64_t count, float* out) {
  if (p.order != Order::rows) return decode_words(p, row, count, out);
  for (int64_t r = row; r < row + count; ++r, out += p.cols) {
    if (p.group_of != nullptr) {
      for (int64_t c = 0; c < p.cols; ++c) {
        const int64_t g = group_at(p, c);
        decode_run(p, r, c, 1, p.scale(r, g), p.format == Format::int4 ? p.zero(r, g) : 0, out + c);
      }
      continue;
    }
    for (int64_t g = 0, c = 0; c < p.cols; ++g, c += p.group) {
      decode_run(p, r, c, std::min(p.group, p.cols - c), p.scale(r, g),
                 p.format == Format::int4 ? p.zero(r, g) : 0, out + c);
    }
  }
}

Packed encode(Format format, int64_t rows, int64_t cols, const std::function<void(int64_t, float*)>& read,
              const std::string& name) {
  Packed p{.format = format, .rows = rows, .cols = cols};
  p.group = format == Format::int4 ? kInt4Group : format == Format::nvfp4 ? kNvfp4Block : cols;
  p.scale_type = format == Format::int4 ? DType::bf16 : format == Format::nvfp4 ? DType::f8_e4m3 : DType::f32;
  p.code_stride = (cols * bits_of(format) + 7) / 8;
  p.biased = format == Format::int8;
  if (format == Format::int4 || format == Format::int8) p.code_stride = (p.code_stride + 3) / 4 * 4;
  p.scale_row_stride = p.groups(), p.scale_group_stride = 1;
  const auto buffers = std::make_shared<Buffers>();
  buffers->codes.resize(size_t(rows * p.code_stride));
  buffers->scales.resize(size_t(rows * p.groups()) * size_of(p.scale_type));

  std::atomic<bool> finite = true;
  std::atomic<uint32_t> largest = 0;  // as bits: magnitudes order like integers
  const int64_t grain = std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(cols, 1));
  if (format == Format::nvfp4) {
    parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      std::vector<float> values(static_cast<size_t>(cols));
      float mine = 0;
      for (int64_t r = begin; r < end; ++r)
        read(r, values.data()), mine = std::max(mine, largest_of(values.data(), cols));
      uint32_t seen = largest;
      while (std::bit_cast<uint32_t>(mine) > seen &&
             !largest.compare_exchange_weak(seen, std::bit_cast<uint32_t>(mine))) {
      }
    });
    p.global = nvfp4_divisor(std::bit_cast<float>(largest.load()));
    p.global_divides = true;
    if (!std::isfinite(p.global) || p.global == 0) finite = false;
  }
  const size_t scale_bytes = size_t(p.groups()) * size_of(p.scale_type);
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(cols));
    for (int64_t r = begin; r < end; ++r) {
      read(r, values.data());
      if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) {
        finite = false;
        continue;
      }
      encode_row(p, values.data(), p.global, buffers->codes.data() + r * p.code_stride,
                 buffers->scales.data() + size_t(r) * scale_bytes);
    }
  });
  if (!finite) fail("{}: expected finite values, found NaN or infinity", name);
  p.codes = buffers->codes.data(), p.scales = buffers->scales.data();
  p.owner = buffers;
  return p;
}

}  // namespace flashrt::quant
