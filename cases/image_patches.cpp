// Patches of byte images and of float images; 3·patch² is not always a multiple of 8.
#include "ops/image_patches.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case patches_case(int64_t views, int64_t size, int64_t patch, bool bytes) {
  return {
      .op = "image_patches",
      .name = fmt::format("{} views of {} px, patches of {}, {}", views, size, patch, bytes ? "u8" : "f32"),
      .record =
          [=](CaseRecorder& c) {
            const Shape shape{views, 3 * size * size};
            image_patches(bytes ? c.bytes(shape) : c.normal_of(DType::f32, shape), size, patch);
          },
      .tolerance_f32 = 2};
}

}  // namespace

std::vector<Case> image_patches_cases() {
  return {patches_case(2, 28, 14, true), patches_case(1, 28, 14, false), patches_case(3, 6, 3, true),
          patches_case(2, 10, 5, false), patches_case(1, 8, 8, true),    patches_case(1, 224, 14, true),
          patches_case(1, 16, 4, false)};
}

}  // namespace flashrt
