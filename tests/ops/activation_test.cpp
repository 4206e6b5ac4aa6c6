// The activations against their formulas in double.
#include "ops/activation.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

double gelu_of(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
double silu_of(double x) { return x / (1 + std::exp(-x)); }

TEST(Activation, Pointwise) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor x = c.normal({3, 11}, 3);
    const Tensor g = gelu(x), s = silu(x);
    p.output("gelu", g);
    p.output("silu", s);
    const CpuRun run(p, c);
    const auto xs = run[x];
    expect_matrix(run[g], 11, tolerance,
                  [&](int64_t r, int64_t k) { return gelu_of(xs[size_t(r * 11 + k)]); });
    expect_matrix(run[s], 11, tolerance,
                  [&](int64_t r, int64_t k) { return silu_of(xs[size_t(r * 11 + k)]); });
  }
}

TEST(Activation, PairsTakeTheGateFromTheFirstHalf) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 2);
    const Tensor x = c.normal({4, 10});
    const Tensor g = geglu(x), s = swiglu(x);
    p.output("geglu", g);
    p.output("swiglu", s);
    const CpuRun run(p, c);
    const auto xs = run[x];
    const auto gate = [&](int64_t r, int64_t k) { return xs[size_t(r * 10 + k)]; };
    const auto up = [&](int64_t r, int64_t k) { return xs[size_t(r * 10 + 5 + k)]; };
    expect_matrix(run[g], 5, tolerance, [&](int64_t r, int64_t k) { return gelu_of(gate(r, k)) * up(r, k); });
    expect_matrix(run[s], 5, tolerance, [&](int64_t r, int64_t k) { return silu_of(gate(r, k)) * up(r, k); });
  }
}

TEST(Activation, SaturatesAtBothEnds) {
  EXPECT_EQ(activate(Activation::gelu, -50.f), 0.f);
  EXPECT_EQ(activate(Activation::gelu, 50.f), 50.f);
  EXPECT_EQ(activate(Activation::silu, 100.f), 100.f);
  EXPECT_NEAR(activate(Activation::silu, -90.f), 0.f, 1e-30);
}

TEST(Activation, RejectsAnOddPair) {
  Program p;
  CaseRecorder c(p, 3);
  EXPECT_THROW(geglu(c.normal({2, 7})), Error);
}

}  // namespace
}  // namespace flashrt
