// Packed weights in the order of the device, decoded with the masks and shifts of its kernels, are the values
// of the format; checked without a GPU.
#include "cuda/packed_layout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "quant/fp8.h"
#include "quant/packed.h"

namespace flashrt::cuda {
namespace {

constexpr int64_t kRows = 22, kCols = 272;  // a tile that is not full, a step that ends early

Weight packed(quant::Format format) {
  const auto matrix = std::make_shared<const quant::Packed>(quant::encode(
      format, kRows, kCols,
      [](int64_t r, float* out) {
        for (int64_t c = 0; c < kCols; ++c) out[c] = std::sin(float(5 * r + 3 * c)) * float(1 + r % 3);
      },
      "w"));
  Weight weight{.name = "w", .shape = {kRows, kCols}};
  weight.parts = {{.data = matrix->codes,
                   .dtype = DType::u8,
                   .rows = kRows,
                   .stride = matrix->code_stride,
                   .packed = matrix}};
  return weight;
}

uint32_t word_at(const std::byte* from, size_t offset) {
  uint32_t word;
  std::memcpy(&word, from + offset, 4);
  return word;
}

// As weight_packed.cuh decodes a lane's word: rows g, g + 8 of a run's columns 0 1, then of 2 3, as bf16
// pairs.
void decode_run(PackedKind kind, const std::byte* lane, int j, uint32_t (&a)[4]) {
  if (is_wide(kind)) {
    for (int h = 0; h < 2; ++h) {
      const int index = 2 * j + h;
      const uint32_t w = word_at(lane, size_t(index / 4 * 512 + index % 4 * 4));
      if (kind == PackedKind::int8) {
        a[2 * h] = w & 0x00ff00ffu, a[2 * h + 1] = w >> 8 & 0x00ff00ffu;
      } else {
        a[2 * h] = (w << 4 & 0x07f007f0u) | (w << 8 & 0x80008000u);
        a[2 * h + 1] = (w >> 4 & 0x07f007f0u) | (w & 0x80008000u);
      }
    }
    return;
  }
  const uint32_t w = word_at(lane, size_t(j * 4));
  if (is_int4(kind)) {
    a[0] = w & 0x000f000fu, a[1] = w & 0x00f000f0u, a[2] = w >> 8 & 0x000f000fu, a[3] = w >> 8 & 0x00f000f0u;
    return;
  }
  a[0] = w & 0x81c081c0u, a[1] = w << 6 & 0x81c081c0u, a[2] = (w >> 6 | w << 26) & 0x81c081c0u;
  a[3] = (w << 4 & 0x81808180u) | (w >> 4 & 0x00400040u);
}

// What a code is multiplied with, and what is taken from it before.
void scale_of(PackedKind kind, const std::byte* step, const std::byte* rows, int lane, int group, int upper,
              float global, float& scale, float& zero) {
  zero = kind == PackedKind::int8 ? 128.f : 0.f;
  if (is_wide(kind)) {
    std::memcpy(&scale, rows + (lane / 4 + 8 * upper) * 4, 4);
  } else if (is_int4(kind)) {
    const uint32_t entry = word_at(step, size_t(1024 + (lane / 4 * 2 + upper) * 4));
    scale = bf16_to_f32(uint16_t(entry));
    zero = bf16_to_f32(uint16_t(entry >> 16)) / (upper ? 16.f : 1.f);
  } else {
    scale = quant::e4m3_to_f32(uint8_t(step[1024 + lane * 4 + group * 2 + upper])) * global;
  }
}

class Layout : public testing::TestWithParam<quant::Format> {};

TEST_P(Layout, MasksAndShiftsGiveTheValues) {
  const Weight weight = packed(GetParam());
  const quant::Packed& matrix = *weight.parts[0].packed;
  const PackedLayout l = packed_layout(weight);
  ASSERT_EQ(l.tiles, 2);
  std::vector<std::byte> memory(l.bytes);
  pack_tiles(weight, l, 0, l.tiles, memory.data());
  pack_row_scales(weight, l, memory.data() + l.row_scale_at);
  std::vector<float> want(size_t(kRows * kCols));
  quant::decode(matrix, 0, kRows, want.data());
  const bool wide = is_wide(l.kind), nvfp4 = l.kind == PackedKind::nvfp4;
  const float global = matrix.global_divides ? 1 / matrix.global : matrix.global;
  int64_t seen = 0;
  for (int64_t tile = 0; tile < l.tiles; ++tile) {
    const std::byte* rows = memory.data() + l.row_scale_at + tile * kPackedRows * 4;
    for (int64_t index = 0; index < l.steps * 2 * 32 * 4 * 8;
         ++index) {  // steps, groups, lanes, runs, values
      const int64_t s = index / (2 * 32 * 4 * 8);
      const int group = int(index / (32 * 4 * 8) % 2), lane = int(index / (4 * 8) % 32),
                j = int(index / 8 % 4);
      const int i = int(index / 2 % 4), upper = int(index % 2), t = lane % 4;
      const int64_t row = tile * 8 + lane / 4 + upper * (kRows / 2);
      const int64_t column = s * kPackedColumns + group * 64 + (nvfp4 ? 16 * t + 4 * j : 16 * j + 4 * t) + i;
      if (tile * 8 + lane / 4 >= kRows / 2 || column >= kCols) continue;
      const std::byte* step = memory.data() + tile * int64_t(l.tile_bytes) + s * packed_step_bytes(l.kind);
      uint32_t a[4];
      decode_run(l.kind, step + group * (wide ? 1024 : 512) + lane * 16, j, a);
      const uint32_t pair = a[i / 2 * 2 + upper];
      const int exponent = l.kind == PackedKind::fp8  ? 120
                           : nvfp4                    ? 126
                           : is_int4(l.kind) && upper ? 129
                                                      : 133;
      const float code = std::ldexp(bf16_to_f32(uint16_t(i % 2 ? pair >> 16 : pair)), exponent);
      float scale, zero;
      scale_of(l.kind, step, rows, lane, group, upper, global, scale, zero);
      const float value = (code - zero) * scale, expected = want[size_t(row * kCols + column)];
      // A matrix's own divisor may round otherwise than its reciprocal.
      ASSERT_NEAR(value, expected, nvfp4 ? std::abs(expected) * 1e-6f : 0.f) << row << ", " << column;
      ++seen;
    }
  }
  EXPECT_EQ(seen, kRows * kCols);
}

INSTANTIATE_TEST_SUITE_P(Formats, Layout,
                         testing::Values(quant::Format::fp8, quant::Format::int8, quant::Format::int4,
                                         quant::Format::nvfp4),
                         [](const auto& info) { return std::string(quant::name_of(info.param)); });

}  // namespace
}  // namespace flashrt::cuda
