// Noise by counter: the same seed gives the same normals on every machine.
#pragma once

#include <cstdint>
#include <span>

namespace flashrt {

// Fills `out` with N(0, 1) values of stream `seed`: Philox4x32-10 (Salmon et al. 2011), four uniforms per
// counter, turned into normals by Box–Muller with polynomials of our own, so that no library's rounding
// enters.
void philox_normal(uint64_t seed, std::span<float> out) noexcept;

// The four random words of one counter.
struct PhiloxWords {
  uint32_t word[4];
};
PhiloxWords philox(uint64_t seed, uint64_t counter) noexcept;

}  // namespace flashrt
