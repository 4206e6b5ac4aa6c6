// The rotation against complex multiplication in double, and the fused split and append against separate
// lines.
#include "ops/rope.h"

#include <complex>

#include "ops/append.h"
#include "ops/split.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Rope, RotatesHalfSplitPairs) {
  constexpr int64_t kHeads = 3, kDim = 10, kRows = 4, kPosition = 6;
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor x = c.normal({kRows, kHeads * kDim}), table = rope_table(p, 16, kDim, 1e4);
    const Tensor y = rope(x, table, c.integer(kPosition), kDim);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto xs = run[x];
    expect_matrix(run[y], kHeads * kDim, tolerance, [&](int64_t r, int64_t column) {
      const int64_t head = column / kDim, i = column % kDim % (kDim / 2);
      const size_t first = size_t(r * kHeads * kDim + head * kDim + i);
      const double angle = double(kPosition + r) * std::pow(1e4, -2.0 * double(i) / kDim);
      const auto turned = std::complex(xs[first], xs[first + kDim / 2]) * std::polar(1.0, angle);
      return column % kDim < kDim / 2 ? turned.real() : turned.imag();
    });
  }
}

TEST(Rope, RowsStartAtZeroWithoutAPosition) {
  Program p;
  CaseRecorder c(p, 2);
  const Tensor x = c.normal({1, 8});
  const Tensor y = rope(x, rope_table(p, 1, 8, 1e4), {}, 8);
  p.output("y", y);
  const CpuRun run(p, c);
  EXPECT_EQ(run[y], run[x]);
}

TEST(Rope, FusedFormEqualsSplitRotateAppend) {
  constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 6, kRows = 3, kPosition = 5, kCapacity = 9;
  const int64_t q_cols = kHeads * kDim, kv_cols = kKvHeads * kDim;
  for (DType dtype : {DType::f32, DType::bf16}) {
    std::vector<std::vector<double>> results[2];
    for (bool fused : {false, true}) {
      Program p(dtype);
      CaseRecorder c(p, 3);
      const Tensor qkv = c.normal({kRows, q_cols + 2 * kv_cols}), at = c.integer(kPosition);
      const Tensor table = rope_table(p, kCapacity, kDim, 1e4);
      Tensor k = p.buffer("k", {kCapacity, kv_cols}, dtype), v = p.buffer("v", {kCapacity, kv_cols}, dtype),
             q;
      if (fused) {
        q = p.temp({kRows, q_cols}, dtype);
        const Tensor next_k = p.version(k), next_v = p.version(v);
        p.record(kRopeAppendOp, {qkv, table, at, k, v}, {q, next_k, next_v},
                 RopeAttrs{kHeads, kKvHeads, kDim}, At::current());
        k = next_k, v = next_v;
      } else {
        const int64_t widths[] = {q_cols, kv_cols, kv_cols};
        const auto parts = split(qkv, widths);
        q = rope(parts[0], table, at, kDim);
        k = append(k, rope(parts[1], table, at, kDim), at);
        v = append(v, parts[2], at);
      }
      p.output("q", q);
      const CpuRun run(p, c);
      for (Tensor cache : {k, v}) {
        const auto all = run[cache];
        results[fused].emplace_back(all.begin() + kPosition * kv_cols,
                                    all.begin() + (kPosition + kRows) * kv_cols);
      }
      results[fused].push_back(run[q]);
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

TEST(Rope, RejectsATableThatIsTooShort) {
  Program p;
  CaseRecorder c(p, 4);
  EXPECT_THROW(rope(c.normal({5, 8}), rope_table(p, 4, 8, 1e4), {}, 8), Error);
  EXPECT_THROW(rope(c.normal({2, 12}), rope_table(p, 4, 8, 1e4), {}, 8), Error);
}

}  // namespace
}  // namespace flashrt
