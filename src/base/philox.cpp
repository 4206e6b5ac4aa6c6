// Normals from random words, by the two polynomials of Box–Muller. Plain multiplications and additions only,
// never contracted.
#include "base/philox.h"

#include <bit>
#include <cmath>

#pragma GCC optimize("fp-contract=off")

namespace flashrt {

namespace {

// ln(x) for normal x > 0: x = 2^e·m with m in [√½, √2), then ln(m) = 2·atanh((m − 1)/(m + 1)) as a series.
inline float log_polynomial(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  int e = int(bits >> 23) - 126;
  float m = std::bit_cast<float>((bits & 0x007fffffu) | 0x3f000000u);
  const bool low = m < 0.70710678f;
  m = low ? m + m : m;
  e = low ? e - 1 : e;
  const float s = (m - 1.f) / (m + 1.f), z = s * s;
  const float series =
      2.f + z * (0.6666667f + z * (0.4f + z * (0.2857143f + z * (0.22222222f + z * 0.18181818f))));
  return float(e) * 0.69314718f + s * series;
}

// sin and cos of 2π·u, u in [0, 1): the nearest quarter turn, then Taylor series on |angle| ≤ π/4.
inline void sincos_polynomial(float u, float& sine, float& cosine) {
  const float turns = u * 4.f;
  const int quarter = int(turns + 0.5f);
  const float a = (turns - float(quarter)) * 1.5707963f, z = a * a;
  const float s =
      a * (1.f + z * (-0.16666667f + z * (8.3333333e-3f + z * (-1.9841270e-4f + z * 2.7557319e-6f))));
  const float c = 1.f + z * (-0.5f + z * (4.1666667e-2f + z * (-1.3888889e-3f + z * 2.4801587e-5f)));
  const int q = quarter & 3;
  const float first = (q & 1) ? c : s, second = (q & 1) ? s : c;
  sine = (q & 2) ? -first : first;
  cosine = (q == 1 || q == 2) ? -second : second;
}

inline void box_muller(uint32_t a, uint32_t b, float& x, float& y) {
  const float u = float((a >> 9) + 1u) * 0x1p-23f;  // (0, 1]
  const float v = float(b >> 9) * 0x1p-23f;         // [0, 1)
  const float r = std::sqrt(-2.f * log_polynomial(u));
  float s, c;
  sincos_polynomial(v, s, c);
  x = r * c;
  y = r * s;
}

}  // namespace

void philox_normal(uint64_t seed, std::span<float> out) noexcept {
  for (size_t i = 0; i < out.size(); i += 4) {
    const PhiloxWords w = philox(seed, i / 4);
    float normal[4];
    box_muller(w.word[0], w.word[1], normal[0], normal[1]);
    box_muller(w.word[2], w.word[3], normal[2], normal[3]);
    for (size_t j = 0; j < 4 && i + j < out.size(); ++j) out[i + j] = normal[j];
  }
}

}  // namespace flashrt
