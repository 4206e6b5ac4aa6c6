// A norm carried by the lines around it computes what three lines did: on ragged shapes, in f32 and bf16, and
// on rows whose mean is far from zero.
#include <algorithm>

#include "cases/cases.h"
#include "ops/fusion.h"
#include "ops/linear.h"
#include "ops/residual.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

bool always(const Program&, const Line&) { return true; }

struct Sizes {
  int64_t m, k, width, n;  // x [m, k] → [m, width] → norm → [m, n]
};
constexpr Sizes kSizes[] = {{1, 8, 16, 8}, {3, 24, 64, 40}, {70, 72, 72, 33}, {129, 40, 200, 130}};

// linear + residual → norm → linear, as every transformer has it; returns the last line's result.
Tensor record_chain(CaseRecorder& c, const Sizes& s, NormKind kind, float mean) {
  const float scale = 1.f / std::sqrt(float(s.k)), wide = 1.f / std::sqrt(float(s.width));
  const Tensor x = c.normal({s.m, s.k});
  const Tensor stream = residual(c.normal({s.m, s.width}, 1, mean),
                                 linear(x, c.matrix(s.width, s.k, scale), c.vector(s.width)));
  const Tensor normed = kind == NormKind::layer
                            ? layer_norm(stream, c.vector(s.width, 0.2f, 1), c.vector(s.width))
                            : rms_norm(stream, c.vector(s.width));
  const Tensor y =
      linear(normed, c.matrix(s.n, s.width, wide), kind == NormKind::layer ? c.vector(s.n) : Tensor{});
  c.p.output("y", y);
  return y;
}

std::vector<double> run_chain(DType dtype, const Sizes& s, NormKind kind, float mean, bool fused) {
  Program p(dtype);
  CaseRecorder c(p, 3);
  const Tensor y = record_chain(c, s, kind, mean);
  if (fused) {
    fuse(p, kPatterns, always);
    EXPECT_EQ(p.lines.size(), 2u);
    EXPECT_EQ(p.lines[0].out.size(), 2u);
    EXPECT_EQ(p.lines[1].attrs<LinearAttrs>().norm.kind, kind);
    EXPECT_EQ(p.lines[1].input(kStatistics), p.lines[0].out[1]);
    EXPECT_FALSE(p.lines[1].has(kNormScale) || p.lines[1].has(kNormShift));
  }
  return CpuRun(p, c)[y];
}

double relative(const std::vector<double>& got, const std::vector<double>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(error / norm);
}

TEST(CarryNorm, ComputesWhatThreeLinesDid) {
  for (const Sizes& s : kSizes) {
    for (NormKind kind : {NormKind::layer, NormKind::rms}) {
      SCOPED_TRACE(fmt::format("{}x{}x{}x{} kind {}", s.m, s.k, s.width, s.n, int(kind)));
      const auto want = run_chain(DType::f32, s, kind, 0, false);
      EXPECT_LE(relative(run_chain(DType::f32, s, kind, 0, true), want), 2e-6);
      // In bf16 both round weights or normalised values, x and the result: neither is further from f32.
      const double plain = relative(run_chain(DType::bf16, s, kind, 0, false), want);
      EXPECT_LE(relative(run_chain(DType::bf16, s, kind, 0, true), want), 1.5 * plain + 1e-3);
    }
  }
}

// Rows with a mean of 30 σ: f32 loses what the cancellation takes, and bf16 rounds x itself to σ/8 or so,
// carried or not.
TEST(CarryNorm, SurvivesALargeMean) {
  const Sizes s = kSizes[2];
  const auto want = run_chain(DType::f32, s, NormKind::layer, 30, false);
  EXPECT_LE(relative(run_chain(DType::f32, s, NormKind::layer, 30, true), want), 1e-4);
  const double plain = relative(run_chain(DType::bf16, s, NormKind::layer, 30, false), want);
  EXPECT_LE(relative(run_chain(DType::bf16, s, NormKind::layer, 30, true), want), 2 * plain + 1e-3);
}

TEST(CarryNorm, SumsAreOfTheRoundedResult) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 5);
    constexpr int64_t kM = 5, kN = 150, kK = 24, kSlots = 3;
    const Tensor y = linear(c.normal({kM, kK}), c.matrix(kN, kK, 0.3f));
    const Tensor sums = p.temp({kSlots, 2 * kM}, DType::f32);
    p.lines[0].out.push_back(sums.id);
    p.output("y", y), p.output("sums", sums);
    const CpuRun run(p, c);
    const auto values = run[y], got = run[sums];
    for (int64_t r = 0; r < kM; ++r) {
      for (int64_t slot = 0; slot < kSlots; ++slot) {
        double sum = 0, squares = 0;
        for (int64_t j = slot * 64; j < std::min(kN, slot * 64 + 64); ++j) {
          sum += values[size_t(r * kN + j)];
          squares += values[size_t(r * kN + j)] * values[size_t(r * kN + j)];
        }
        EXPECT_NEAR(got[size_t(slot * 2 * kM + 2 * r)], sum, 1e-4);
        EXPECT_NEAR(got[size_t(slot * 2 * kM + 2 * r + 1)], squares, 1e-4 * squares);
      }
    }
  }
}

// The norm stays a line or goes into the consumer alone: a state that other programs share, a modulated norm,
// a norm read twice, a producer that is no linear, a device that cannot sum.
TEST(CarryNorm, WhereItMustNot) {
  const auto carried = [](const std::function<void(CaseRecorder&)>& record,
                          std::function<bool(const Program&, const Line&)> supported = always) {
    Program p(DType::bf16);
    CaseRecorder c(p, 1);
    record(c);
    fuse(p, kPatterns, std::move(supported));
    return std::ranges::any_of(p.lines, [](const Line& l) { return l.has(kStatistics); });
  };
  const auto chain = [](CaseRecorder& c) { record_chain(c, kSizes[1], NormKind::rms, 0); };
  EXPECT_TRUE(carried(chain));
  EXPECT_FALSE(carried(chain, [](const Program&, const Line& line) { return line.out.size() == 1; }));
  EXPECT_FALSE(carried([&](CaseRecorder& c) {
    c.p.buffer("cache", {4, 8}, DType::bf16, Kind::state);
    chain(c);
  }));
  EXPECT_FALSE(carried([](CaseRecorder& c) {  // no linear before
    c.p.output("y", linear(rms_norm(c.normal({4, 16}), c.vector(16)), c.matrix(8, 16)));
  }));
  EXPECT_FALSE(carried([](CaseRecorder& c) {  // two readers
    const Tensor x = linear(c.normal({4, 8}), c.matrix(16, 8)), normed = rms_norm(x, c.vector(16));
    c.p.output("y", linear(normed, c.matrix(8, 16)));
    c.p.output("normed", normed);
  }));
  EXPECT_FALSE(carried([](CaseRecorder& c) {  // modulated
    const Tensor x = linear(c.normal({4, 8}), c.matrix(16, 8));
    c.p.output("y", linear(ada_rms_norm(x, c.normal({1, 16}), c.normal({1, 16})), c.matrix(8, 16)));
  }));
}

// What a device stores of a centred row still sums to 0, and no value is further than one unit from what it
// should be.
TEST(CarryNorm, CentredRowsStayCentred) {
  constexpr int64_t kColumns = 1152;
  Program p(DType::f32);
  CaseRecorder c(p, 3);
  Weight weight = *p.info(c.matrix(4, kColumns, 0.02f).id).weight;
  std::vector<float> factor(kColumns);
  for (int64_t i = 0; i < kColumns; ++i) factor[size_t(i)] = 0.7f + 0.001f * float(i);
  for (auto& part : weight.parts) part.factor = std::make_shared<const Weight::ColumnFactor>(factor, true);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (int64_t r = 0; r < 4; ++r) {
      std::vector<float> want(kColumns);
      read_weight_row(weight, r, want.data());
      std::vector<uint16_t> got(kColumns), nearest(kColumns);
      store_weight_row(weight, r, dtype, got.data());
      double sum = 0, rounded = 0;
      int moved = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        store_float(nearest.data(), dtype, i, want[i]);
        const double value = load_float(got.data(), dtype, i);
        sum += value, rounded += load_float(nearest.data(), dtype, i);
        moved += nearest[i] != got[i];
        EXPECT_LE(std::abs(value - want[i]),
                  (dtype == DType::bf16 ? 0x1p-7 : 0x1p-10) * std::abs(want[i]) + 1e-7);
      }
      EXPECT_LT(std::abs(sum), 1e-5);
      EXPECT_GT(std::abs(rounded), 1e-5) << "this row needed nothing";
      EXPECT_LT(moved, kColumns / 4);
    }
  }
}

}  // namespace
}  // namespace flashrt
