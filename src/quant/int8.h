// Signed bytes: value = code · scale, one scale per row, which maps the row's largest magnitude to 127.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace flashrt::quant {

constexpr float int8_scale(float largest) { return largest > 0 ? largest / 127.f : 1.f; }

// To the nearest, ties to even.
inline int8_t to_int8(float v, float scale) {
  return int8_t(std::clamp(std::nearbyint(v / scale), -127.f, 127.f));
}

}  // namespace flashrt::quant
