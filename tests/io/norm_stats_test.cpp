// Normalisation in both dialects against numpy (f64 for openpi, f32 for LeRobot), constant dimensions
// included.
#include "io/norm_stats.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace flashrt {
namespace {

constexpr float kValues[] = {0.3f, -1.7f, 2.5f};

Normalizer normalizer(NormMode mode, NormDialect dialect) {
  // (mean, std) or (low, high); the last dimension is constant: std is not 0, but high − low is.
  return {mode, dialect, dialect == NormDialect::openpi ? 1e-6 : 1e-8, {0.1, -2, 2.5}, {0.7, 0, 2.5}};
}

std::vector<float> forward(const Normalizer& n, std::span<const float> x = kValues) {
  std::vector<float> values(x.begin(), x.end());
  n.normalize(values);
  return values;
}

std::vector<float> inverse(const Normalizer& n, std::span<const float> y = kValues) {
  std::vector<float> values(y.begin(), y.end());
  n.unnormalize(values);
  return values;
}

TEST(Normalizer, ZscoreOpenpi) {
  const Normalizer n = normalizer(NormMode::zscore, NormDialect::openpi);
  EXPECT_EQ(forward(n), (std::vector<float>{0.28571388125419617f, 299999.9375f, 0.0f}));
  EXPECT_EQ(inverse(n), (std::vector<float>{0.31000030040740967f, -2.0000016689300537f, 8.75000286102295f}));
}

TEST(Normalizer, QuantileOpenpi) {
  const Normalizer n = {NormMode::quantile, NormDialect::openpi, 1e-6, {0.1, -2, 2.5}, {0.7, 0, 2.5}};
  EXPECT_EQ(forward(n), (std::vector<float>{-0.33333441615104675f, -0.7000002264976501f, -1.0f}));
  EXPECT_EQ(inverse(n), (std::vector<float>{0.4900006353855133f, -2.700000286102295f, 2.5000016689300537f}));
}

TEST(Normalizer, ZscoreLerobotHasNoEpsilonInTheInverse) {
  const Normalizer n = normalizer(NormMode::zscore, NormDialect::lerobot);
  EXPECT_EQ(forward(n), (std::vector<float>{0.285714328289032f, 29999996.0f, 0.0f}));
  EXPECT_EQ(inverse(n), (std::vector<float>{0.3100000023841858f, -2.0f, 8.75f}));
}

TEST(Normalizer, RangesLerobotReplaceAZeroWidth) {
  for (const NormMode mode : {NormMode::quantile, NormMode::quantile10, NormMode::minmax}) {
    const Normalizer n = normalizer(mode, NormDialect::lerobot);
    EXPECT_EQ(forward(n), (std::vector<float>{-0.33333325386047363f, -0.7000000476837158f, -1.0f}));
    EXPECT_EQ(inverse(n), (std::vector<float>{0.4899999499320984f, -2.700000047683716f, 2.5f}));
  }
}

TEST(Normalizer, IdentityTouchesNothing) {
  EXPECT_EQ(forward({}), std::vector<float>(std::begin(kValues), std::end(kValues)));
  EXPECT_EQ(inverse({}), std::vector<float>(std::begin(kValues), std::end(kValues)));
}

TEST(Normalizer, ARobotMayHaveFewerDimensions) {
  const Normalizer n = normalizer(NormMode::zscore, NormDialect::lerobot);
  EXPECT_EQ(forward(n, std::span(kValues).first(1)), std::vector<float>{0.285714328289032f});
  EXPECT_EQ(inverse(n, std::span(kValues).first(1)), std::vector<float>{0.3100000023841858f});
}

TEST(Normalizer, MoreDimensionsThanStatistics) {
  const float four[] = {0.3f, -1.7f, 2.5f, 4};
  for (const NormDialect dialect : {NormDialect::openpi, NormDialect::lerobot}) {
    EXPECT_THROW(forward(normalizer(NormMode::zscore, dialect), four), Error);
  }
  EXPECT_THROW(inverse(normalizer(NormMode::zscore, NormDialect::lerobot), four), Error);
  EXPECT_EQ(inverse(normalizer(NormMode::quantile, NormDialect::openpi), four)[3], 4);
  EXPECT_FLOAT_EQ(inverse(normalizer(NormMode::zscore, NormDialect::openpi), four)[3],
                  4.000004f);  // mean 0, std 1
}

}  // namespace
}  // namespace flashrt
