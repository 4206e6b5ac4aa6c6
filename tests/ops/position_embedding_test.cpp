// Rows get the table's rows from the position on, and NaN outside the table.
#include "ops/position_embedding.h"

#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(PositionEmbedding, RowsFromThePositionOn) {
  for (const int32_t first : {-1, 0, 3, 9}) {
    for (auto [dtype, tolerance] : kPrecisions) {
      Program p(dtype);
      CaseRecorder c(p, 1);
      const Tensor x = c.normal({5, 7}), table = c.matrix(11, 7, 1);
      const Tensor y = position_embedding(x, table, first == 0 ? Tensor{} : c.integer(first));
      p.output("y", y);
      const CpuRun run(p, c);
      const auto rows = run[x], positions = run[table];
      expect_matrix(run[y], 7, tolerance, [&](int64_t r, int64_t k) {
        const int64_t at = first + r;
        return at >= 0 && at < 11 ? rows[size_t(r * 7 + k)] + positions[size_t(at * 7 + k)] : NAN;
      });
    }
  }
}

TEST(PositionEmbedding, RefusesWhatDoesNotFit) {
  Program p(DType::f32);
  CaseRecorder c(p, 1);
  const Tensor x = c.normal({5, 7});
  EXPECT_THROW(position_embedding(x, c.matrix(11, 8), {}), Error);
  EXPECT_THROW(position_embedding(x, c.matrix(11, 7), c.normal({1, 1})), Error);
}

}  // namespace
}  // namespace flashrt
