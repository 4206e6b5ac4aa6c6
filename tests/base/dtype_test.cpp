// Conversions between the half types and f32, over every bit pattern.
#include "base/dtype.h"

#include <gtest/gtest.h>

namespace flashrt {
namespace {

TEST(DType, Bf16RoundTripsEveryPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float f = bf16_to_f32(uint16_t(bits));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(f))));
    } else {
      EXPECT_EQ(f32_to_bf16(f), bits);
    }
  }
}

TEST(DType, F16RoundTripsEveryPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float f = f16_to_f32(uint16_t(bits));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
    } else {
      EXPECT_EQ(f32_to_f16(f), bits);
    }
  }
}

TEST(DType, RoundsToNearestEven) {
  EXPECT_EQ(f32_to_f16(65519.f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.f), 0x7c00);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0);
  EXPECT_EQ(f32_to_f16(0x1.8p-24f), 2);
  EXPECT_EQ(f32_to_bf16(1.f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.f + 0x1.8p-7f), 0x3f82);
}

}  // namespace
}  // namespace flashrt
