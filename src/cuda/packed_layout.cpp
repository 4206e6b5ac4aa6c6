// Packing row by row: a row's codes are read once and scattered to their lanes.
#include "cuda/packed_layout.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

namespace flashrt::cuda {

namespace {

using quant::Format;
using quant::Packed;

constexpr size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

// The part that holds row `row`, and the row within its matrix.
const Packed& matrix_of(const Weight& weight, int64_t& row) {
  for (const Weight::Part& part : weight.parts) {
    if (row < part.rows) {
      row += part.first;
      return *part.packed;
    }
    row -= part.rows;
  }
  check(false, "a row of the weight");
  return *weight.parts[0].packed;
}

// Row r (0 … 15) of a tile as a row of w; −1 beyond its half.
int64_t row_of_tile(const Weight& weight, int64_t tile, int r) {
  const int64_t half = weight.shape.rows / 2, row = 8 * tile + r % 8;
  return row < half ? row + (r / 8) * half : -1;
}

// The bits of one E2M1 code in half h of a run's word; `a` as for int4's nibbles.
uint32_t pack_e2m1(int code, int h, int a) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= uint32_t(code >> i & 1) << (e2m1_place(a, i) + 16 * h) % 32;
  return bits;
}

// The codes of row r of a tile within one step's 128 columns.
void pack_codes(PackedKind kind, int r, const uint8_t* codes, std::byte* step) {
  const int g = r % 8, upper = r / 8;
  for (int c = 0; c < kPackedColumns; ++c) {
    const int group = c / 64, run16 = c % 64 / 16, run4 = c % 16 / 4, i = c % 4;
    const int j = kind == PackedKind::nvfp4 ? run4 : run16, t = kind == PackedKind::nvfp4 ? run16 : run4;
    const int lane = 4 * g + t;
    if (is_wide(kind)) {
      const int word = 2 * j + i / 2;
      step[group * 1024 + word / 4 * 512 + lane * 16 + word % 4 * 4 + i % 2 * 2 + upper] =
          std::byte(codes[c]);
      continue;
    }
    const int a = i / 2 * 2 + upper;
    const uint32_t bits = kind == PackedKind::nvfp4 ? pack_e2m1(codes[c], i % 2, a)
                                                    : uint32_t(codes[c]) << (4 * a + 16 * (i % 2));
    std::byte* at = step + group * 512 + lane * 16 + j * 4;
    uint32_t word;
    std::memcpy(&word, at, 4);
    word |= bits;
    std::memcpy(at, &word, 4);
  }
}

uint16_t load_half(const std::byte* scales, int64_t i) {
  uint16_t bits;
  std::memcpy(&bits, scales + 2 * i, 2);
  return bits;
}

// The scales of row r of a tile within step `s`.
void pack_scales(PackedKind kind, const Packed& p, int64_t row, int r, int64_t s, std::byte* scales) {
  if (is_int4(kind)) {
    const int count = kind == PackedKind::int4 ? 1 : 4;
    for (int q = 0; q < count; ++q) {
      const int64_t column = s * kPackedColumns + q * (kPackedColumns / count);
      const int64_t group = std::min(column, p.cols - 1) / p.group;
      const int64_t place = row / p.scale_rows * p.scale_row_stride + group * p.scale_group_stride;
      const uint32_t zero = f32_to_bf16(float(p.zero(row, group) * (r < 8 ? 1 : 16)));
      const uint32_t entry = load_half(p.scales, place) | zero << 16;
      std::memcpy(scales + q * 64 + (r % 8 * 2 + r / 8) * 4, &entry, 4);
    }
  } else if (kind == PackedKind::nvfp4) {
    for (int block = 0; block < 8; ++block) {
      const int64_t column = s * kPackedColumns + block * 16;
      if (column >= p.cols) continue;
      const int lane = 4 * (r % 8) + block % 4;
      scales[lane * 4 + block / 4 * 2 + r / 8] =
          p.scales[row * p.scale_row_stride + column / 16 * p.scale_group_stride];
    }
  }
}

PackedKind kind_of(const Weight& weight) {
  switch (*weight.format()) {
    case Format::fp8: return PackedKind::fp8;
    case Format::int8: return PackedKind::int8;
    case Format::nvfp4: return PackedKind::nvfp4;
    case Format::int4: break;
  }
  for (const Weight::Part& part : weight.parts) {
    if (part.packed->group < part.packed->cols && part.packed->group % kPackedColumns != 0)
      return PackedKind::int4_fine;
  }
  return PackedKind::int4;
}

}  // namespace

PackedLayout packed_layout(const Weight& weight) {
  PackedLayout l{.kind = kind_of(weight)};
  l.bf16_scales = weight.parts[0].packed->scale_type == DType::bf16;
  l.tiles = (weight.shape.rows / 2 + 7) / 8;
  l.steps = (weight.shape.cols + kPackedColumns - 1) / kPackedColumns;
  l.tile_bytes = size_t(l.steps * packed_step_bytes(l.kind));
  l.row_scale_at = aligned(size_t(l.tiles) * l.tile_bytes);
  const size_t rows = size_t(l.tiles * kPackedRows) * sizeof(float);
  l.row_global_at = l.row_scale_at + (is_int4(l.kind) ? 0 : rows);
  l.bytes = l.row_global_at + (l.kind == PackedKind::nvfp4 ? rows : 0);
  return l;
}

void pack_tiles(const Weight& weight, const PackedLayout& l, int64_t first, int64_t count, std::byte* to) {
  std::memset(to, 0, size_t(count) * l.tile_bytes);
  const int step_bytes = packed_step_bytes(l.kind);
  std::vector<uint8_t> codes(size_t(l.steps * kPackedColumns));
  for (int64_t tile = first; tile < first + count; ++tile, to += l.tile_bytes) {
    for (int r = 0; r < kPackedRows; ++r) {
      int64_t row = row_of_tile(weight, tile, r);
      if (row < 0) continue;
      const Packed& p = matrix_of(weight, row);
      p.read_codes(row, codes.data());
      // What lies beyond the last column multiplies zeros; a code that means a number will do.
      std::fill(codes.begin() + p.cols, codes.end(), uint8_t{0});
      for (int64_t s = 0; s < l.steps; ++s) {
        std::byte* step = to + s * step_bytes;
        pack_codes(l.kind, r, codes.data() + s * kPackedColumns, step);
        pack_scales(l.kind, p, row, r, s, step + packed_code_bytes(l.kind));
      }
    }
  }
}

void pack_row_scales(const Weight& weight, const PackedLayout& l, std::byte* to) {
  if (is_int4(l.kind)) return;
  for (int64_t i = 0; i < l.tiles * kPackedRows; ++i) {
    int64_t row = row_of_tile(weight, i / kPackedRows, int(i % kPackedRows));
    float scale = 0, global = 1;
    if (row >= 0) {
      const Packed& p = matrix_of(weight, row);
      scale = p.scale(row, 0);
      if (l.kind == PackedKind::nvfp4) {
        scale = p.global_divides ? 1 / p.global : p.global;
        global = p.global_divides ? -p.global : p.global;
      }
    }
    std::memcpy(to + i * 4, &scale, 4);
    if (l.kind == PackedKind::nvfp4)
      std::memcpy(to + (l.row_global_at - l.row_scale_at) + size_t(i) * 4, &global, 4);
  }
}

PackedMatrix packed_matrix(const Weight& weight, const void* memory) {
  const PackedLayout l = packed_layout(weight);
  const auto* tiles = static_cast<const uint8_t*>(memory);
  const auto at = [&](size_t offset) { return reinterpret_cast<const float*>(tiles + offset); };
  return {.tiles = tiles,
          .row_scale = is_int4(l.kind) ? nullptr : at(l.row_scale_at),
          .row_global = l.kind == PackedKind::nvfp4 ? at(l.row_global_at) : nullptr,
          .n = int(weight.shape.rows),
          .k = int(weight.shape.cols),
          .steps = int(l.steps),
          .bf16_scales = l.bf16_scales};
}

}  // namespace flashrt::cuda
