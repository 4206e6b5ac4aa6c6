// Concatenations stack rows, as copies and with producers that write into place.
#include "ops/concat.h"

#include "ops/activation.h"
#include "ops/fusion.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Concat, StacksRows) {
  Program p(DType::bf16);
  CaseRecorder c(p, 1);
  const Tensor a = c.normal({2, 3}), b = c.normal({3, 3});
  const Tensor y = concat({a, b});
  p.output("y", y);
  const CpuRun run(p, c);
  const auto as = run[a], bs = run[b];
  expect_matrix(run[y], 3, 0, [&](int64_t r, int64_t k) {
    return r < 2 ? as[size_t(r * 3 + k)] : bs[size_t((r - 2) * 3 + k)];
  });
}

TEST(Concat, ProducersWriteIntoPlace) {
  std::vector<double> results[2];
  for (bool placed : {false, true}) {
    Program p;
    CaseRecorder c(p, 2);
    const Tensor y = concat({silu(c.normal({2, 5})), gelu(c.normal({3, 5}))});
    p.output("y", y);
    if (placed) {
      const Pattern patterns[] = {place_concat};
      EXPECT_EQ(fuse(p, patterns, [](const Program&, const Line&) { return true; }), 1);
      EXPECT_EQ(p.lines.size(), 2u);
    }
    const CpuRun run(p, c);
    results[placed] = run[y];
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(Concat, RejectsOtherWidths) {
  Program p;
  CaseRecorder c(p, 3);
  EXPECT_THROW(concat({c.normal({2, 3}), c.normal({2, 4})}), Error);
}

}  // namespace
}  // namespace flashrt
