// PNG and JPEG: what is accepted has as many pixels as its size says, and resizes.
#include <cstdlib>

#include "base/error.h"
#include "io/image_decode.h"
#include "io/image_resize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    const Image image = decode_image(std::as_bytes(std::span(data, size)), "fuzz");
    if (image.pixels.size() != size_t(image.width) * size_t(image.height) * 3) std::abort();
    if (image.pixels.size() > 1 << 20) return 0;
    for (const ResizeRule rule : {ResizeRule::pillow_antialias, ResizeRule::torch_bilinear}) {
      ResizePlan plan(image.width, image.height, 16, 12, rule);
      std::vector<uint8_t> bytes(16 * 12 * 3);
      std::vector<float> floats(16 * 12 * 3);
      plan.run(image.pixels.data(), bytes.data());
      plan.run(image.pixels.data(), floats.data());
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
