// Splits are column ranges, copied unchanged.
#include "ops/split.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Split, PartsAreColumnRanges) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const int64_t widths[] = {3, 1, 5};
    const Tensor x = c.normal({4, 9});
    const auto parts = split(x, widths);
    for (size_t j = 0; j < 3; ++j) p.output(fmt::format("part{}", j), parts[j]);
    const CpuRun run(p, c);
    const auto xs = run[x];
    int64_t first = 0;
    for (size_t j = 0; j < 3; ++j) {
      expect_matrix(run[parts[j]], widths[j], 0,
                    [&](int64_t r, int64_t k) { return xs[size_t(r * 9 + first + k)]; });
      first += widths[j];
    }
  }
}

TEST(Split, RejectsWidthsOfAnotherSum) {
  Program p;
  CaseRecorder c(p, 2);
  const int64_t widths[] = {3, 4};
  EXPECT_THROW(split(c.normal({4, 9}), widths), Error);
}

}  // namespace
}  // namespace flashrt
