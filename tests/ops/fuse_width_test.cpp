// A wide result between two linears gets rows of whole lines, and nothing else changes.
#include "cases/cases.h"
#include "ops/activation.h"
#include "ops/fusion.h"
#include "ops/linear.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

struct Sizes {
  int64_t m, k, width, n;
};

struct Result {
  std::vector<double> values;
  int64_t width;
};

Result run(const Sizes& s, DType dtype, bool aligned, bool read_twice = false) {
  Program p(dtype);
  CaseRecorder c(p, 7);
  const Tensor hidden = gelu(linear(c.normal({s.m, s.k}), c.matrix(s.width, s.k, 0.2f), c.vector(s.width)));
  const Tensor y = linear(hidden, c.matrix(s.n, s.width, 0.05f), c.vector(s.n));
  p.output("y", y);
  if (read_twice) p.output("hidden", hidden);
  std::vector<Pattern> patterns(std::begin(kPatterns), std::end(kPatterns));
  if (!aligned) std::erase(patterns, align_width);
  fuse(p, patterns, [](const Program&, const Line&) { return true; });
  const int64_t width = p.info(p.lines.back().in[kX]).shape.cols;
  return {CpuRun(p, c)[y], width};
}

TEST(AlignWidth, AddsColumnsOfZeros) {
  const Sizes s{65, 40, 1032, 24};
  const Result plain = run(s, DType::bf16, false), aligned = run(s, DType::bf16, true);
  EXPECT_EQ(plain.width, 1032);
  EXPECT_EQ(aligned.width, 1088);
  EXPECT_EQ(aligned.values, plain.values);
}

TEST(AlignWidth, WhereItMustNot) {
  EXPECT_EQ(run({64, 40, 1032, 24}, DType::bf16, true).width, 1032);        // few rows
  EXPECT_EQ(run({65, 40, 1000, 24}, DType::bf16, true).width, 1000);        // narrow
  EXPECT_EQ(run({65, 40, 1088, 24}, DType::bf16, true).width, 1088);        // whole lines already
  EXPECT_EQ(run({65, 40, 1032, 24}, DType::f32, true).width, 1032);         // the definition stays as it is
  EXPECT_EQ(run({65, 40, 1032, 24}, DType::bf16, true, true).width, 1032);  // an output
}

}  // namespace
}  // namespace flashrt
