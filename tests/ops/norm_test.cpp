// The row normalisations against their formulas in double.
#include "ops/norm.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

struct Statistics {
  double mean = 0, mean_square = 0, variance = 0;
};

Statistics statistics(const std::vector<double>& x, int64_t row, int64_t n) {
  Statistics s;
  for (int64_t c = 0; c < n; ++c) s.mean += x[size_t(row * n + c)] / double(n);
  for (int64_t c = 0; c < n; ++c) {
    const double v = x[size_t(row * n + c)];
    s.mean_square += v * v / double(n);
    s.variance += (v - s.mean) * (v - s.mean) / double(n);
  }
  return s;
}

TEST(Norm, Layer) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor x = c.normal({3, 7}, 2, 1), w = c.vector(7, 0.2f, 1), b = c.vector(7);
    const Tensor y = layer_norm(x, w, b, 1e-3f);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto xs = run[x], ws = run[w], bs = run[b];
    expect_matrix(run[y], 7, tolerance, [&](int64_t r, int64_t k) {
      const Statistics s = statistics(xs, r, 7);
      return (xs[size_t(r * 7 + k)] - s.mean) / std::sqrt(s.variance + 1e-3) * ws[size_t(k)] + bs[size_t(k)];
    });
  }
}

TEST(Norm, Rms) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 2);
    const Tensor x = c.normal({5, 33}, 2), w = c.vector(33);
    const Tensor y = rms_norm(x, w, 1e-2f);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto xs = run[x], ws = run[w];
    expect_matrix(run[y], 33, tolerance, [&](int64_t r, int64_t k) {
      return xs[size_t(r * 33 + k)] / std::sqrt(statistics(xs, r, 33).mean_square + 1e-2) *
             (1 + ws[size_t(k)]);
    });
  }
}

TEST(Norm, AdaRmsTakesScaleAndShiftFromActivations) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 3);
    const Tensor x = c.normal({4, 16}), scale = c.normal({1, 16}), shift = c.normal({1, 16});
    const Tensor y = ada_rms_norm(x, scale, shift);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto xs = run[x], scales = run[scale], shifts = run[shift];
    expect_matrix(run[y], 16, tolerance, [&](int64_t r, int64_t k) {
      return xs[size_t(r * 16 + k)] / std::sqrt(statistics(xs, r, 16).mean_square + 1e-6) *
                 (1 + scales[size_t(k)]) +
             shifts[size_t(k)];
    });
  }
}

TEST(Norm, ConstantRowStaysFinite) {
  Program p;
  CaseRecorder c(p, 4);
  const Tensor x = c.normal({2, 9}, 0, 0), w = c.vector(9), b = c.vector(9);
  const Tensor y = layer_norm(x, w, b);
  p.output("y", y);
  const CpuRun run(p, c);
  const auto bs = run[b];
  expect_matrix(run[y], 9, 1e-6, [&](int64_t, int64_t k) { return bs[size_t(k)]; });
}

TEST(Norm, RejectsVectorsOfAnotherWidth) {
  Program p;
  CaseRecorder c(p, 5);
  EXPECT_THROW(rms_norm(c.normal({2, 8}), c.vector(7)), Error);
}

}  // namespace
}  // namespace flashrt
