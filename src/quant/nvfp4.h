// NVFP4: E2M1 elements (sign, two bits of exponent, one of mantissa), an E4M3 scale per 16 columns, and one
// f32 scale per matrix. (NVIDIA 2025; OCP Microscaling Formats 1.0 for the element)
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "quant/fp8.h"

namespace flashrt::quant {

constexpr int kNvfp4Block = 16;  // columns per scale
constexpr float kE2m1Largest = 6;

constexpr std::array<float, 16> kE2m1Values = {0,    0.5f,  1,  1.5f,  2,  3,  4,  6,
                                               -0.f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

// To the nearest, ties to the even code; saturates.
inline uint8_t f32_to_e2m1(float v) {
  const float m = std::abs(v);
  const int code = m <= 0.25f   ? 0
                   : m < 0.75f  ? 1
                   : m <= 1.25f ? 2
                   : m < 1.75f  ? 3
                   : m <= 2.5f  ? 4
                   : m < 3.5f   ? 5
                   : m <= 5.f   ? 6
                                : 7;
  return uint8_t(code | (std::signbit(v) ? 8 : 0));
}

// The scale of the matrix, a divisor: the largest block's scale becomes 448. The reciprocal is rounded first,
// as compressed-tensors does.
constexpr float nvfp4_divisor(float largest) {
  return largest > 0 ? 1.f / largest * (kE4m3Largest * kE2m1Largest) : 1.f;
}

// The code of a block's scale. A block that is not zero keeps a scale that is not.
inline uint8_t nvfp4_block_scale(float largest, float divisor) {
  const uint8_t code = f32_to_e4m3(divisor * (largest / kE2m1Largest));
  return code == 0 ? 1 : code;
}

}  // namespace flashrt::quant
