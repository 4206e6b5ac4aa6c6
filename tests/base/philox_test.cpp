// Philox against its authors' known answers, and the normals against their distribution and exact functions.
#include "base/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace flashrt {
namespace {

TEST(Philox, MatchesKnownAnswers) {  // Random123's kat_vectors: philox4x32 10, all zero
  const PhiloxWords w = philox(0, 0);
  EXPECT_EQ(w.word[0], 0x6627e8d5u);
  EXPECT_EQ(w.word[1], 0xe169c58du);
  EXPECT_EQ(w.word[2], 0xbc57ac4cu);
  EXPECT_EQ(w.word[3], 0x9b00dbd8u);
}

TEST(Philox, NormalsFollowBoxMuller) {
  std::vector<float> x(4000);
  philox_normal(7, x);
  for (size_t i = 0; i < x.size(); i += 4) {
    const PhiloxWords w = philox(7, i / 4);
    for (int pair = 0; pair < 2; ++pair) {
      const double u = double((w.word[2 * pair] >> 9) + 1) * 0x1p-23,
                   v = double(w.word[2 * pair + 1] >> 9) * 0x1p-23;
      const double r = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
      EXPECT_NEAR(x[i + size_t(2 * pair)], r * std::cos(angle), 2e-6);
      EXPECT_NEAR(x[i + size_t(2 * pair) + 1], r * std::sin(angle), 2e-6);
    }
  }
}

TEST(Philox, NormalsHaveUnitVariance) {
  std::vector<float> x(200000);
  philox_normal(42, x);
  double sum = 0, squares = 0;
  for (float v : x) sum += v, squares += double(v) * v;
  EXPECT_NEAR(sum / double(x.size()), 0, 0.01);
  EXPECT_NEAR(squares / double(x.size()), 1, 0.01);
}

TEST(Philox, SeedsGiveDifferentStreamsAndPrefixesAgree) {
  std::vector<float> a(10), b(10), longer(37);
  philox_normal(1, a);
  philox_normal(2, b);
  philox_normal(1, longer);
  EXPECT_NE(a, b);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), longer.begin()));
}

}  // namespace
}  // namespace flashrt
