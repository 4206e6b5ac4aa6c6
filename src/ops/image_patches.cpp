// Definition of the patches.
#include "ops/image_patches.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const auto a = call.attrs<PatchAttrs>();
  const int64_t s = a.size, p = a.patch, grid = s / p;
  const Shape shape = call.out_shape(0);
  const bool bytes = call.in_dtype(0) == DType::u8;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t view = row / (grid * grid), gy = row / grid % grid, gx = row % grid;
    float* y = call.out(0) + row * shape.cols;
    for (int64_t c = 0; c < shape.cols; ++c) {
      const int64_t channel = c / (p * p), py = gy * p + c / p % p, px = gx * p + c % p;
      if (channel >= 3) {
        y[c] = 0;
      } else if (bytes) {
        y[c] = float(static_cast<const uint8_t*>(call.raw(0))[((view * s + py) * s + px) * 3 + channel]) /
                   255.f * 2.f -
               1.f;
      } else {
        y[c] = call.f32(0)[((view * 3 + channel) * s + py) * s + px];
      }
    }
  }
}

std::string describe(const Line& line) {
  return fmt::format("size={} patch={}", line.attrs<PatchAttrs>().size, line.attrs<PatchAttrs>().patch);
}

}  // namespace

const OpDef kImagePatchesOp{.name = "image_patches", .reference = reference, .describe = describe};

Tensor image_patches(Tensor image, int64_t size, int64_t patch, At at) {
  require(image.cols() == 3 * size * size && size % patch == 0, at,
          "image_patches: {} values for a {} px image of {} px patches", image.cols(), size, patch);
  Program& program = *image.program;
  const int64_t grid = size / patch;
  const Tensor y =
      program.temp({image.rows() * grid * grid, (3 * patch * patch + 7) / 8 * 8}, program.compute());
  program.record(kImagePatchesOp, {image}, {y}, PatchAttrs{int32_t(size), int32_t(patch)}, at);
  return y;
}

}  // namespace flashrt
