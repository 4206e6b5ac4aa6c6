// The Euler step against its formula.
#include "ops/euler_step.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(EulerStep, AddsTheScaledVelocity) {
  Program p(DType::bf16);
  CaseRecorder c(p, 1);
  const Tensor x = c.normal_of(DType::f32, {3, 7}), v = c.normal({3, 7});
  const Tensor y = euler_step(x, v, -0.25f);
  p.output("y", y);
  const CpuRun run(p, c);
  const auto xs = run[x], vs = run[v];
  expect_matrix(run[y], 7, 1e-6,
                [&](int64_t r, int64_t k) { return xs[size_t(r * 7 + k)] - 0.25 * vs[size_t(r * 7 + k)]; });
  EXPECT_EQ(y.dtype(), DType::f32);
}

TEST(EulerStep, RejectsOtherShapesAndTypes) {
  Program p(DType::bf16);
  CaseRecorder c(p, 2);
  EXPECT_THROW(euler_step(c.normal_of(DType::f32, {2, 3}), c.normal({3, 2}), 1), Error);
  EXPECT_THROW(euler_step(c.normal({2, 3}), c.normal({2, 3}), 1), Error);
}

}  // namespace
}  // namespace flashrt
