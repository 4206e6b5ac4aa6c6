// Images cut into the rows of the patch embedding's matrix product.
#pragma once

#include "ops/record.h"

namespace flashrt {

struct PatchAttrs {
  int32_t size = 0, patch = 0;  // pixels: a square image, square patches
};

// One row per patch, patches in row-major order, images stacked; columns in the order (channel, y, x), then
// zeros up to a multiple of 8. image: u8 [views, size·size·3] as HWC, mapped to x/255·2 − 1, or f32 [views,
// 3·size·size] as CHW, taken as it is. y [views·(size/patch)², roundup8(3·patch²)]. (The unfolded form of a
// stride-`patch` convolution.)
Tensor image_patches(Tensor image, int64_t size, int64_t patch, At at = At::current());

extern const OpDef kImagePatchesOp;

}  // namespace flashrt
