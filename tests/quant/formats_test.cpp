// The formats' own rules: every code, every rounding, against definitions written out another way.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "quant/fp8.h"
#include "quant/int4.h"
#include "quant/int8.h"
#include "quant/nvfp4.h"
#include "quant/packed.h"

namespace flashrt::quant {
namespace {

// The nearest of the values 0 … largest (ascending by code), the even code at a tie.
int nearest(double v, const std::vector<double>& values) {
  int best = 0;
  for (int i = 1; i < int(values.size()); ++i) {
    const double closer = std::abs(v - values[size_t(best)]) - std::abs(v - values[size_t(i)]);
    if (closer > 0 || (closer == 0 && i % 2 == 0)) best = i;
  }
  return best;
}

TEST(Fp8, EveryCodeIsItsSignExponentAndMantissa) {
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    const float value = e4m3_to_f32(uint8_t(code));
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    EXPECT_EQ(value, (code & 128 ? -magnitude : magnitude)) << code;
    EXPECT_EQ(std::signbit(value), code >= 128);
    EXPECT_EQ(f32_to_e4m3(value), code);
  }
}

TEST(Fp8, RoundsToTheNearestAndSaturates) {
  std::vector<double> values;
  for (int code = 0; code < 127; ++code) values.push_back(e4m3_to_f32(uint8_t(code)));
  for (uint32_t bits = 0; bits < 0x8000; ++bits) {  // every positive bfloat16, and a little beside it
    for (const int aside : {-1, 0, 1}) {
      const float v = std::bit_cast<float>((bits << 16) + uint32_t(aside));
      if (std::isnan(v) || v < 0) continue;
      const int expected = v >= 448 ? 126 : nearest(v, values);
      ASSERT_EQ(f32_to_e4m3(v), expected) << v;
      ASSERT_EQ(f32_to_e4m3(-v), expected | 128) << v;
    }
  }
  EXPECT_EQ(f32_to_e4m3(NAN) & 127, 127);
  EXPECT_EQ(f32_to_e4m3(INFINITY), 126);
}

TEST(Nvfp4, RoundsToTheNearest) {
  const std::vector<double> values(kE2m1Values.begin(), kE2m1Values.begin() + 8);
  EXPECT_EQ(values, (std::vector<double>{0, 0.5, 1, 1.5, 2, 3, 4, 6}));
  for (int i = 0; i <= 7000; ++i) {
    const float v = float(i) / 1000;
    ASSERT_EQ(f32_to_e2m1(v), nearest(v, values)) << v;
    ASSERT_EQ(kE2m1Values[f32_to_e2m1(-v)], -kE2m1Values[f32_to_e2m1(v)]) << v;
  }
}

// A scaled element has so few bits that half types hold it exactly: kernels may compute with it in either.
TEST(Nvfp4, ElementTimesScaleIsExactInHalfTypes) {
  for (int element = 0; element < 16; ++element) {
    for (int scale = 0; scale < 127; ++scale) {
      const float v = kE2m1Values[size_t(element)] * e4m3_to_f32(uint8_t(scale));
      EXPECT_EQ(bf16_to_f32(f32_to_bf16(v)), v);
      EXPECT_EQ(f16_to_f32(f32_to_f16(v)), v);
    }
  }
}

std::vector<float> values_of(int64_t rows, int64_t cols) {
  std::vector<float> values(size_t(rows * cols));
  for (size_t i = 0; i < values.size(); ++i) {
    const float wave = std::sin(float(i) * 1.7f) + 0.3f * std::cos(float(i * i % 1009));
    values[i] = bf16_to_f32(f32_to_bf16(wave * std::ldexp(1.f, int(i / size_t(cols) % 7) - 3)));
  }
  return values;
}

Packed encoded(Format format, int64_t rows, int64_t cols, const std::vector<float>& values) {
  return encode(
      format, rows, cols, [&](int64_t r, float* out) { std::copy_n(values.begin() + r * cols, cols, out); },
      "test");
}

constexpr Format kFormats[] = {Format::fp8, Format::int8, Format::int4, Format::nvfp4};

// Half a step of the format is the most that a value moves: 2^-4 of it or 2^-10 of the row in fp8, 1/254 and
// 1/15 (and what a bf16 scale rounds) of the row's or group's largest in integers, 1/6 of the block's largest
// in nvfp4 (and what its scale rounds).
TEST(Encode, ValuesMoveByAtMostHalfAStep) {
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{5, 256}, {3, 130}, {1, 1}, {7, 33}, {2, 640}}) {
    const std::vector<float> values = values_of(rows, cols);
    for (const Format format : kFormats) {
      const Packed packed = encoded(format, rows, cols, values);
      std::vector<float> back(values.size());
      decode(packed, 0, rows, back.data());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          const int64_t begin = c / packed.group * packed.group, end = std::min(begin + packed.group, cols);
          float largest = 0;
          for (int64_t i = begin; i < end; ++i)
            largest = std::max(largest, std::abs(values[size_t(r * cols + i)]));
          const float v = values[size_t(r * cols + c)];
          const float allowed = format == Format::fp8    ? std::max(std::abs(v) / 16, largest / 448 / 1024)
                                : format == Format::int8 ? largest / 253
                                : format == Format::int4 ? largest / 14.4f
                                                         : largest / 5;
          EXPECT_NEAR(back[size_t(r * cols + c)], v, allowed)
              << name_of(format) << " " << rows << "x" << cols;
        }
      }
    }
  }
}

TEST(Encode, EncodingTwiceChangesNothing) {
  const std::vector<float> values = values_of(4, 256);
  for (const Format format : {Format::fp8, Format::int8}) {
    std::vector<float> once(values.size()), twice(values.size());
    decode(encoded(format, 4, 256, values), 0, 4, once.data());
    decode(encoded(format, 4, 256, once), 0, 4, twice.data());
    for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(once[i], twice[i], 1e-6f * std::abs(once[i]));
  }
}

TEST(Encode, ZerosStayZeros) {
  for (const Format format : kFormats) {
    std::vector<float> back(2 * 160, 1.f);
    decode(encoded(format, 2, 160, std::vector<float>(2 * 160)), 0, 2, back.data());
    EXPECT_EQ(back, std::vector<float>(2 * 160)) << name_of(format);
  }
}

TEST(Encode, RowsDecodeAlone) {
  const std::vector<float> values = values_of(9, 145);
  for (const Format format : kFormats) {
    const Packed packed = encoded(format, 9, 145, values);
    std::vector<float> all(values.size()), some(3 * 145);
    decode(packed, 0, 9, all.data());
    decode(packed, 5, 3, some.data());
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + 5 * 145)) << name_of(format);
  }
}

TEST(Encode, RefusesWhatIsNotFinite) {
  for (const Format format : kFormats) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> values(256, 0.5f);
      values[200] = bad;
      try {
        encoded(format, 2, 128, values);
        FAIL() << name_of(format);
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("test: expected finite values"), std::string::npos);
      }
    }
  }
}

}  // namespace
}  // namespace flashrt::quant
