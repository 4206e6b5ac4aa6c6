// Patches times a kernel's unfolded weights are the strided convolution.
#include "ops/image_patches.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

// Pixel (view, channel, y, x) as the model sees it.
double pixel(const std::vector<double>& image, bool bytes, int64_t size, int64_t view, int64_t channel,
             int64_t y, int64_t x) {
  if (bytes) return image[size_t(((view * size + y) * size + x) * 3 + channel)] / 255 * 2 - 1;
  return image[size_t(((view * 3 + channel) * size + y) * size + x)];
}

TEST(ImagePatches, RowsArePatchesInChannelRowColumnOrder) {
  constexpr int64_t kViews = 2, kSize = 15, kPatch = 5, kGrid = 3, kCols = 80;  // 75 values, padded
  for (auto [dtype, tolerance] : kPrecisions) {
    for (bool bytes : {false, true}) {
      Program p(dtype);
      CaseRecorder c(p, 1);
      const Shape shape{kViews, 3 * kSize * kSize};
      const Tensor image = bytes ? c.bytes(shape) : c.normal_of(DType::f32, shape);
      const Tensor y = image_patches(image, kSize, kPatch);
      p.output("y", y);
      EXPECT_EQ(y.shape(), (Shape{kViews * kGrid * kGrid, kCols}));
      const CpuRun run(p, c);
      const auto pixels = run[image];
      expect_matrix(run[y], kCols, tolerance, [&](int64_t row, int64_t k) -> double {
        if (k >= 3 * kPatch * kPatch) return 0;
        const int64_t patch = row % (kGrid * kGrid), within = k % (kPatch * kPatch);
        return pixel(pixels, bytes, kSize, row / (kGrid * kGrid), k / (kPatch * kPatch),
                     patch / kGrid * kPatch + within / kPatch, patch % kGrid * kPatch + within % kPatch);
      });
    }
  }
}

TEST(ImagePatches, RejectsSizesThatDoNotDivide) {
  Program p;
  CaseRecorder c(p, 2);
  EXPECT_THROW(image_patches(c.bytes({1, 3 * 15 * 15}), 15, 4), Error);
  EXPECT_THROW(image_patches(c.bytes({1, 3 * 15 * 14}), 15, 5), Error);
}

}  // namespace
}  // namespace flashrt
