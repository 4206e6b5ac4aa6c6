// Time features against their formula in double.
#include "ops/time_embedding.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(TimeEmbedding, SineThenCosineOfGeometricPeriods) {
  for (bool in_double : {true, false}) {
    Program p;
    CaseRecorder c(p, 1);
    constexpr int64_t kWidth = 12, kHalf = kWidth / 2;
    const Tensor t = c.normal_of(DType::f32, {5, 1}, 0.3f, 0.5f);
    const Tensor y = time_embedding(t, kWidth, {.min_period = 4e-3, .max_period = 4, .in_double = in_double});
    p.output("y", y);
    const CpuRun run(p, c);
    const auto times = run[t];
    // f32 arguments of up to 1571 are known to 2⁻¹³ only.
    expect_matrix(run[y], kWidth, in_double ? 1e-6 : 1e-3, [&](int64_t r, int64_t k) {
      const double period = 4e-3 * std::pow(4 / 4e-3, double(k % kHalf) / (kHalf - 1));
      const double angle = 2 * 3.14159265358979323846 * times[size_t(r)] / period;
      return k < kHalf ? std::sin(angle) : std::cos(angle);
    });
  }
}

TEST(TimeEmbedding, RejectsAnOddWidth) {
  Program p;
  CaseRecorder c(p, 2);
  EXPECT_THROW(time_embedding(c.normal({2, 1}), 7, {}), Error);
}

}  // namespace
}  // namespace flashrt
