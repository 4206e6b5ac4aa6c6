// The residual addition against its formula in double.
#include "ops/residual.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Residual, GateAndRepeatingRows) {
  for (auto [dtype, tolerance] : kPrecisions) {
    for (bool gated : {false, true}) {
      Program p(dtype);
      CaseRecorder c(p, 1);
      const Tensor x = c.normal({2, 7}), y = c.normal({6, 7}), gate = gated ? c.vector(7, 1) : Tensor{};
      const Tensor out = residual(x, y, gate);
      p.output("out", out);
      const CpuRun run(p, c);
      const auto xs = run[x], ys = run[y], gates = gated ? run[gate] : std::vector<double>(7, 1.0);
      expect_matrix(run[out], 7, tolerance, [&](int64_t r, int64_t k) {
        return xs[size_t(r % 2 * 7 + k)] + gates[size_t(k)] * ys[size_t(r * 7 + k)];
      });
    }
  }
}

TEST(Residual, RejectsRowsThatDoNotRepeat) {
  Program p;
  CaseRecorder c(p, 2);
  EXPECT_THROW(residual(c.normal({4, 7}), c.normal({6, 7})), Error);
  EXPECT_THROW(residual(c.normal({6, 7}), c.normal({6, 7}), c.vector(6)), Error);
}

}  // namespace
}  // namespace flashrt
