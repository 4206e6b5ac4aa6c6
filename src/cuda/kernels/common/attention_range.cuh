// Which keys exist and which of them a row of queries sees.
#pragma once
#include "cuda/kernels/common/tile_params.h"

namespace flashrt {

__device__ __forceinline__ int existing_keys(const AttentionTileParams& p) {
  return max(0, min(p.capacity, p.keys + (p.length != nullptr ? *p.length : 0)));
}

// Row r of its segment sees keys [0, result) of the `keys` that exist; never decreases with r.
__device__ __forceinline__ int visible_keys(const AttentionTileParams& p, int r, int keys) {
  const int hidden = p.causal ? p.rows - 1 - r : r < p.lead_rows ? p.rows - p.lead_rows : 0;
  return max(0, keys - hidden);
}

// The first of the `visible` keys of a row that its window reaches.
__device__ __forceinline__ int first_visible_key(const AttentionTileParams& p, int visible) {
  return p.window > 0 ? max(0, visible - p.window) : 0;
}

}  // namespace flashrt
