// The mixture of experts against its formula in double.
#include "ops/experts.h"

#include <algorithm>

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

void check(const ExpertsAttrs& a, int64_t rows, int64_t count, int64_t n, int64_t m) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 7);
    const Tensor x = c.normal({rows, n}), gate_up = c.matrix(count * 2 * m, n, 0.3f),
                 down = c.matrix(count * n, m, 0.3f);
    Tensor router;
    {
      const auto exact = p.exact();
      router = c.normal({rows, count});
    }
    const Tensor y = experts(x, router, gate_up, down, a);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto xs = run[x], rs = run[router], us = run[gate_up], ds = run[down];
    std::vector<double> want(size_t(rows * n), 0);
    for (int64_t r = 0; r < rows; ++r) {
      double all = 0, chosen = 0;
      const auto rank = [&](int64_t e) {
        return std::count_if(rs.begin() + r * count, rs.begin() + (r + 1) * count,
                             [&](double v) { return v > rs[size_t(r * count + e)]; });
      };
      for (int64_t e = 0; e < count; ++e) {
        all += std::exp(rs[size_t(r * count + e)]);
        if (rank(e) < a.used) chosen += std::exp(rs[size_t(r * count + e)]);
      }
      for (int64_t e = 0; e < count; ++e) {
        if (rank(e) >= a.used) continue;
        const double weight = std::exp(rs[size_t(r * count + e)]) / (a.normalise ? chosen : all);
        for (int64_t h = 0; h < m; ++h) {
          double gate = 0, up = 0;
          for (int64_t k = 0; k < n; ++k) {
            gate += us[size_t((e * 2 * m + h) * n + k)] * xs[size_t(r * n + k)];
            up += us[size_t((e * 2 * m + m + h) * n + k)] * xs[size_t(r * n + k)];
          }
          const double hidden = gate / (1 + std::exp(-gate)) * up;
          for (int64_t j = 0; j < n; ++j)
            want[size_t(r * n + j)] += weight * hidden * ds[size_t((e * n + j) * m + h)];
        }
      }
    }
    expect_matrix(run[y], n, tolerance, [&](int64_t r, int64_t j) { return want[size_t(r * n + j)]; });
  }
}

TEST(Experts, NormalisedAndNot) {
  check({.used = 2, .normalise = 1}, 5, 6, 7, 9);
  check({.used = 3, .normalise = 0}, 4, 12, 8, 5);
  check({.used = 1, .normalise = 1}, 3, 4, 6, 4);
  check({.used = 3, .normalise = 1}, 2, 3, 5, 6);
}

TEST(Experts, RejectsOtherShapes) {
  Program p;
  CaseRecorder c(p, 1);
  const Tensor x = c.normal({2, 4}), router = c.normal({2, 3}), up = c.matrix(3 * 2 * 5, 4, 1),
               down = c.matrix(3 * 4, 5, 1);
  EXPECT_THROW(experts(x, router, up, up, {.used = 2}), Error);
  EXPECT_THROW(experts(x, router, up, down, {.used = 4}), Error);
  EXPECT_THROW(experts(x, c.normal({1, 3}), up, down, {.used = 2}), Error);
}

}  // namespace
}  // namespace flashrt
