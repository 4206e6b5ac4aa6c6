// Unsigned nibbles: value = (code − zero) · scale, scale and zero shared by a group of columns of one row.
// Symmetric codes have zero 8. (Frantar et al. 2023; Lin et al. 2024)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace flashrt::quant {

constexpr int kInt4Group = 128;  // columns per scale when we encode
constexpr int kInt4Zero = 8;

// The codes 0 … 15 of a symmetric group stand for -8 … 7; its largest magnitude lies at ±7.5.
constexpr float int4_scale(float largest) { return largest / 7.5f; }

inline uint8_t to_int4(float v, float scale) {
  return uint8_t(std::clamp(std::nearbyint(v / scale), -8.f, 7.f) + kInt4Zero);
}

constexpr float int4_to_f32(int code, int zero, float scale) { return float(code - zero) * scale; }

}  // namespace flashrt::quant
