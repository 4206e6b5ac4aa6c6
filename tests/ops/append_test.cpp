// Appends write their rows and nothing else.
#include "ops/append.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Append, WritesRowsFromThePositionOn) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor cache = p.buffer("cache", {7, 3}, dtype), x = c.normal({2, 3});
    const Tensor next = append(cache, x, c.integer(4));
    CpuRun run(p, c);
    const auto xs = run[x];
    expect_matrix(run[next], 3, 0,
                  [&](int64_t r, int64_t k) { return r == 4 || r == 5 ? xs[size_t((r - 4) * 3 + k)] : 0; });
  }
}

TEST(Append, RejectsRowsThatDoNotFit) {
  Program p;
  CaseRecorder c(p, 2);
  EXPECT_THROW(append(p.buffer("cache", {2, 3}, DType::f32), c.normal({3, 3}), {}), Error);
  EXPECT_THROW(append(p.buffer("cache", {5, 4}, DType::f32), c.normal({3, 3}), {}), Error);
}

}  // namespace
}  // namespace flashrt
