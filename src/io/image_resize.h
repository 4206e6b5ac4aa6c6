// Camera images to the model's size: aspect kept, centred on black, with the exact arithmetic of each
// trainer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/policy_config.h"

namespace flashrt {

// By the rule of the code that trained:
//   pillow_antialias   openpi: PIL BILINEAR, 8-bit fixed point, two passes
//   bicubic            transformers: the same with PIL BICUBIC
//   torch_bilinear     LeRobot: F.interpolate(bilinear, align_corners=False), not antialiased, in float
//
// Everything about one camera that does not depend on the pixels. `run` allocates nothing; one plan serves
// one caller at a time, since its scratch memory is its own.
class ResizePlan {
 public:
  // Throws Error(input) for sizes outside 1…8192, or when a side of the result would be empty.
  ResizePlan(int src_width, int src_height, int width, int height, ResizeRule rule);

  // `src`: [src_height, src_width, 3] RGB.
  void run(const uint8_t* src, uint8_t* dst) noexcept;  // [height, width, 3]
  void run(const uint8_t* src, float* dst) noexcept;    // [3, height, width], value / 255 · 2 − 1

  int src_width() const { return src_width_; }
  int src_height() const { return src_height_; }

 private:
  // Weights of the source pixels under each output pixel along one axis.
  struct Axis {
    struct Span {
      int32_t begin, count;
    };
    std::vector<Span> spans;       // per output pixel
    std::vector<int32_t> weights;  // [output, taps], 22 fractional bits
    int taps = 0;
  };
  struct Lerp {  // torch: value = a·(1 − t) + b·t
    int32_t a, b;
    float t;
  };
  static Axis axis_of(int src, int dst, ResizeRule rule);
  static std::vector<Lerp> lerp_of(int src, int dst);
  void resample(const uint8_t* src, uint8_t* dst) noexcept;
  void horizontal(const uint8_t* src) noexcept;
  void interpolate(const uint8_t* src, float* dst) noexcept;

  int src_width_, src_height_, width_, height_;
  int inner_width_ = 0, inner_height_ = 0, left_ = 0, top_ = 0;  // where the picture lies on the canvas
  ResizeRule rule_;
  Axis x_, y_;
  std::vector<Lerp> lerp_x_, lerp_y_;
  std::vector<uint8_t> rows_;             // after the horizontal pass: [src_height, inner_width, 3]
  std::vector<int32_t> wide_row_, sums_;  // one row in and out, and one element that the last pixel touches
  std::vector<uint8_t> canvas_;           // [height, width, 3]
  std::vector<float> planes_;             // [3, height, width]
};

// Turns an image [height, width, 3] by 180° in place, as LIBERO's cameras need.
void rotate_half_turn(uint8_t* pixels, int width, int height) noexcept;

}  // namespace flashrt
