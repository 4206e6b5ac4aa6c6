// Resizes for image.py: reads [i32 w, h, width, height, rule][pixels], writes the 8-bit and the float result.
#include <cstdio>
#include <vector>

#include "base/error.h"
#include "io/image_resize.h"

int main() try {
  for (int32_t head[5]; std::fread(head, 4, 5, stdin) == 5;) {
    std::vector<uint8_t> pixels(size_t(head[0]) * size_t(head[1]) * 3);
    if (std::fread(pixels.data(), 1, pixels.size(), stdin) != pixels.size())
      flashrt::fail("stdin: a cut record");
    flashrt::ResizePlan plan(head[0], head[1], head[2], head[3], flashrt::ResizeRule(head[4]));
    std::vector<uint8_t> bytes(size_t(head[2]) * size_t(head[3]) * 3);
    std::vector<float> floats(bytes.size());
    plan.run(pixels.data(), bytes.data());
    plan.run(pixels.data(), floats.data());
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fwrite(floats.data(), 4, floats.size(), stdout);
    std::fflush(stdout);
  }
} catch (const flashrt::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
