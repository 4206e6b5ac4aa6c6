// Packed weights as the kernels of this device read them (kernels/common/packed_params.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/kernels/common/packed_params.h"
#include "tape/tensor.h"

namespace flashrt::cuda {

struct PackedLayout {
  PackedKind kind = PackedKind::fp8;
  bool bf16_scales = true;  // int4
  int64_t tiles = 0, steps = 0;
  size_t tile_bytes = 0, row_scale_at = 0, row_global_at = 0, bytes = 0;
};

// Of a weight with a format.
PackedLayout packed_layout(const Weight& weight);

// Tiles [first, first + count) into `to`.
void pack_tiles(const Weight& weight, const PackedLayout& layout, int64_t first, int64_t count,
                std::byte* to);
// What stands behind the tiles: bytes − row_scale_at bytes.
void pack_row_scales(const Weight& weight, const PackedLayout& layout, std::byte* to);

// The view that kernels take of a weight stored at `memory`.
PackedMatrix packed_matrix(const Weight& weight, const void* memory);

}  // namespace flashrt::cuda
