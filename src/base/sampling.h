// What drawing a token computes with the same bits on the CPU and on a GPU: ordered keys and weights, besides
// the random words of philox.h. Integers and single IEEE operations only.
#pragma once

#include <bit>
#include <cstdint>

#include "base/philox.h"

namespace flashrt {

// How a token is drawn; an i32 tensor [1, kSamplingWords] holds one.
struct SamplingSettings {
  float scale = 0;       // 2²⁴·log₂(e) / temperature; 0: the largest logit
  int32_t top_k = 0;     // candidates kept; 0: all
  float top_p = 1;       // the fewest candidates whose probabilities reach this
  float min_p = 0;       // candidates at least this fraction as likely as the likeliest
  float above_zero = 1;  // divides positive logits of tokens seen
  float below_zero = 1;  // and the others
  float presence = 0;    // subtracted once from tokens of the answer
  float frequency = 0;   // subtracted per occurrence in the answer
  uint32_t seed[2] = {0, 0};
};
constexpr int kSamplingWords = sizeof(SamplingSettings) / sizeof(int32_t);
constexpr int64_t kMostSampled = int64_t{1} << 20;  // tokens of a vocabulary

// Of a token: twice its count in the answer, plus 1 when the prompt has it.
FLASHRT_BOTH inline float adjusted_logit(float logit, int32_t seen, float bias, const SamplingSettings& s) {
  if (seen != 0) logit /= logit > 0 ? s.above_zero : s.below_zero;
  if (seen > 1) {
#ifdef __CUDA_ARCH__  // never contracted
    logit = __fsub_rn(logit, __fadd_rn(s.presence, __fmul_rn(s.frequency, float(seen >> 1))));
#else
    const float repeated = s.frequency * float(seen >> 1);
    const float penalty = s.presence + repeated;
    logit = logit - penalty;
#endif
  }
  return logit + bias;
}

// Larger for a larger logit, and for the first of equal ones; 52 bits. `id` below kMostSampled.
FLASHRT_BOTH inline uint64_t candidate_key(float logit, int32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit);
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 20 | uint64_t(kMostSampled - 1 - id);
}

// 2⁴⁴·exp((logit − top) / temperature), to about 2⁻²⁸ of it; 0 below 1. logit ≤ top.
constexpr uint64_t kLargestWeight = uint64_t{1} << 44;
FLASHRT_BOTH inline uint64_t candidate_weight(float logit, float top, float scale) {
  const float below = (top - logit) * scale;   // in 2⁻²⁴ octaves
  if (!(below < 45.f * 16777216.f)) return 0;  // infinities and no numbers too
  const uint32_t x = uint32_t(below);
  // 2^(−i/16)·2³¹
  static constexpr uint32_t kRoots[16] = {
      2147483648u, 2056437387u, 1969251188u, 1885761398u, 1805811301u, 1729250827u, 1655936265u, 1585730000u,
      1518500250u, 1454120821u, 1392470869u, 1333434672u, 1276901417u, 1222764986u, 1170923762u, 1121280436u};
  // 2^(−r), r in [0, 1/16), as a series in r·ln 2
  const uint64_t r = uint64_t(x & 0xfffffu) * 2977044472u >> 24;  // ·2³² · ln 2
  uint64_t series = (uint64_t{1} << 32) - (r >> 2);
  series = (uint64_t{1} << 32) - (r * series >> 32) / 3;
  series = (uint64_t{1} << 32) - (r * series >> 33);
  series = (uint64_t{1} << 32) - (r * series >> 32);
  return (kRoots[x >> 20 & 15] * series >> 19) >> (x >> 24);
}

}  // namespace flashrt
