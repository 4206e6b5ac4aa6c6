// Lookups give scaled rows, and NaN for indices outside the table.
#include "ops/embedding.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Embedding, RowsByIndex) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor ids = c.integers({1, 40}, -2, 6), table = c.matrix(5, 7, 1);
    const Tensor y = embedding(ids, table, 2.5f);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto index = run[ids], rows = run[table];
    int outside = 0;
    for (double id : index) outside += id < 0 || id >= 5;
    EXPECT_GT(outside, 0);
    EXPECT_LT(outside, 40);
    expect_matrix(run[y], 7, tolerance, [&](int64_t r, int64_t k) {
      const double id = index[size_t(r)];
      return id >= 0 && id < 5 ? 2.5 * rows[size_t(id) * 7 + size_t(k)] : NAN;
    });
  }
}

}  // namespace
}  // namespace flashrt
