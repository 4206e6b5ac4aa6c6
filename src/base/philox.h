// Noise by counter: the same seed gives the same normals on every machine.
#pragma once

#include <cstdint>
#include <span>

#include "base/host_device.h"

namespace flashrt {

// Fills `out` with N(0, 1) values of stream `seed`: Philox4x32-10 (Salmon et al. 2011), four uniforms per
// counter, turned into normals by Box–Muller with polynomials of our own, so that no library's rounding
// enters.
void philox_normal(uint64_t seed, std::span<float> out) noexcept;

// The four random words of one counter: Philox4x32-10 (Salmon et al. 2011).
struct PhiloxWords {
  uint32_t word[4];
};
FLASHRT_BOTH inline PhiloxWords philox(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {uint32_t(counter), uint32_t(counter >> 32), 0, 0};
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {uint32_t(p1 >> 32) ^ c[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c[3] ^ k1,
                              uint32_t(p0)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
  }
  return {{c[0], c[1], c[2], c[3]}};
}

}  // namespace flashrt
