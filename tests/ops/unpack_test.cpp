// Packed weights as plain elements, and the pass that puts the line before products nobody takes.
#include "ops/unpack.h"

#include "ops/linear.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

Weight packed_weight(quant::Format format, int64_t rows, int64_t cols) {
  const auto packed = std::make_shared<const quant::Packed>(quant::encode(
      format, rows, cols,
      [&](int64_t r, float* out) {
        for (int64_t c = 0; c < cols; ++c) out[c] = std::sin(float(3 * r + 7 * c));
      },
      "w"));
  Weight weight{.name = "w", .shape = {rows, cols}};
  weight.parts = {{.data = packed->codes,
                   .dtype = DType::u8,
                   .rows = rows,
                   .stride = packed->code_stride,
                   .packed = packed}};
  return weight;
}

constexpr quant::Format kFormats[] = {quant::Format::fp8, quant::Format::int8, quant::Format::int4,
                                      quant::Format::nvfp4};

TEST(Unpack, ValuesAreRoundedOnce) {
  for (const quant::Format format : kFormats) {
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      Program p(type);
      CaseRecorder recorder(p, 1);
      const Weight weight = packed_weight(format, 6, 48);
      const std::vector<float> values = weight_values(weight);
      const Tensor w = p.weight(weight);
      EXPECT_EQ(w.dtype(), DType::u8);
      const Tensor y = unpack(w);
      p.output("y", y);
      EXPECT_EQ(y.dtype(), type);
      const std::vector<double> got = CpuRun(p, recorder)[y];
      for (size_t i = 0; i < values.size(); ++i) {
        const float rounded = type == DType::bf16  ? bf16_to_f32(f32_to_bf16(values[i]))
                              : type == DType::f16 ? f16_to_f32(f32_to_f16(values[i]))
                                                   : values[i];
        EXPECT_EQ(got[i], double(rounded)) << quant::name_of(format) << " " << name_of(type);
      }
    }
  }
}

TEST(Unpack, ComesBeforeWhatIsNotSupported) {
  std::vector<double> results[2];
  for (const bool supported : {true, false}) {
    Program p(DType::f32);
    CaseRecorder recorder(p, 1);
    const Tensor x = recorder.normal({3, 48});
    const Tensor plain = recorder.matrix(6, 6);
    const Tensor h = linear(x, p.weight(packed_weight(quant::Format::int4, 6, 48)));
    const Tensor y = linear(h, plain);
    p.output("y", y);
    const At at = p.lines[0].at;
    const int inserted = unpack_weights(
        p, [&](const Program&, const Line& line) { return supported || line.op == &kUnpackOp; });
    EXPECT_EQ(inserted, supported ? 0 : 1);
    ASSERT_EQ(p.lines.size(), supported ? 2u : 3u);
    EXPECT_EQ(p.lines[0].op, supported ? &kLinearOp : &kUnpackOp);
    EXPECT_EQ(p.lines[0].at.line, at.line);
    EXPECT_EQ(p.info(p.lines.back().in[kW]).kind, Kind::weight);
    results[supported] = CpuRun(p, recorder)[y];
  }
  EXPECT_EQ(results[0], results[1]);
}

// Where no line of the device reads the codes, the values are rounded to the program's type once for all.
TEST(Unpack, WhatNobodyUnpacksIsHeldPlain) {
  Program p(DType::bf16);
  CaseRecorder recorder(p, 1);
  const Weight weight = packed_weight(quant::Format::fp8, 7, 48);
  const Tensor y = linear(recorder.normal({3, 48}), p.weight(weight));
  p.output("y", y);
  EXPECT_EQ(unpack_weights(p, [](const Program&, const Line&) { return false; }), 0);
  ASSERT_EQ(p.lines.size(), 1u);
  const TensorInfo& w = p.info(p.lines[0].in[kW]);
  EXPECT_EQ(w.kind, Kind::weight);
  EXPECT_EQ(w.dtype, DType::bf16);
  EXPECT_EQ(w.bytes(), size_t{7 * 48 * 2});
}

TEST(Unpack, BytesOfPackedWeightsAreCounted) {
  Program p(DType::bf16);
  const Tensor x = p.input("x", {1, 256}, DType::bf16);
  linear(x, p.weight(packed_weight(quant::Format::int4, 8, 256)));
  EXPECT_EQ(p.cost(p.lines[0]).weight_bytes, 8 * 256 / 2 + 8 * 2 * 2);  // codes, and a bf16 scale per 128
}

}  // namespace
}  // namespace flashrt
