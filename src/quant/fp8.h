// E4M3: sign, four bits of exponent with bias 7, three of mantissa; no infinity, 0x7f is NaN, 448 the
// largest. (Micikevicius et al. 2022, "FP8 formats for deep learning"; the variant that others call e4m3fn)
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace flashrt::quant {

constexpr float kE4m3Largest = 448;

constexpr float e4m3_to_f32(uint8_t code) {
  const uint32_t sign = uint32_t(code & 0x80u) << 24, exponent = code >> 3 & 15u, mantissa = code & 7u;
  if ((code & 0x7fu) == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) return (sign ? -1.f : 1.f) * float(mantissa) * 0x1p-9f;
  return std::bit_cast<float>(sign | (exponent + 120) << 23 | mantissa << 20);
}

// To the nearest, ties to even; beyond the largest it saturates. NaN stays NaN.
constexpr uint8_t f32_to_e4m3(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v), magnitude = bits & 0x7fffffffu;
  const auto sign = uint8_t(bits >> 24 & 0x80u);
  if (magnitude > 0x7f800000u) return sign | 0x7f;
  if (magnitude >= std::bit_cast<uint32_t>(kE4m3Largest)) return sign | 0x7e;
  if (magnitude < 0x3c800000u) {  // below 2^-6: multiples of 2^-9, rounded by adding 1.5 · 2^(23 - 9)
    const float shifted = std::bit_cast<float>(magnitude) + 0x1.8p14f;
    return sign | uint8_t(std::bit_cast<uint32_t>(shifted) & 0xfu);
  }
  const uint32_t rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
  return sign | uint8_t((rounded >> 20) - (120u << 3));
}

constexpr std::array<float, 256> kE4m3Values = [] {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) values[size_t(code)] = e4m3_to_f32(uint8_t(code));
  return values;
}();

// value = code · scale, one scale per row: the row's largest magnitude becomes 448.
constexpr float fp8_scale(float largest) { return largest > 0 ? largest / kE4m3Largest : 1.f; }

}  // namespace flashrt::quant
