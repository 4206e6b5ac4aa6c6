// Integer-only random numbers (splitmix64), so that every machine draws the same layouts and noise.
#pragma once

#include <cstdint>

namespace flashrt::tabletop {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // splitmix64 (Steele, Lea, Flood 2014).
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

  // Uniform in [0, 1): 24 bits, exact in float.
  float unit() { return float(bits() >> 40) * (1.f / 16777216.f); }
  float between(float low, float high) { return low + (high - low) * unit(); }
  int below(int n) { return int(bits() % uint64_t(n)); }
  bool chance(float probability) { return unit() < probability; }

 private:
  uint64_t state_;
};

}  // namespace flashrt::tabletop
