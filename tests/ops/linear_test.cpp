// The product against double sums, and every fused form against the composition of separate lines.
#include "cases/linear.h"

#include "ops/append.h"
#include "ops/residual.h"
#include "ops/split.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

TEST(Linear, ProductWithBiasAndPaddingColumns) {
  constexpr int64_t kM = 3, kN = 5, kK = 19, kCols = 24;
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor x = c.normal({kM, kCols}), w = c.matrix(kN, kK, 0.3f), b = c.vector(kN);
    const Tensor y = linear(x, w, b);
    p.output("y", y);
    const CpuRun run(p, c);
    const auto xs = run[x], ws = run[w], bs = run[b];
    expect_matrix(run[y], kN, tolerance, [&](int64_t r, int64_t j) {
      double sum = bs[size_t(j)];
      for (int64_t k = 0; k < kK; ++k) sum += xs[size_t(r * kCols + k)] * ws[size_t(j * kK + k)];
      return sum;
    });
  }
}

// The same operands through one line per part, with f32 between the lines.
std::vector<Tensor> record_composition(Program& p, const LinearSpec& s, const LinearOperandsOf& o) {
  const auto exact = p.exact();
  Tensor y = o.x;
  if (s.norm == NormKind::layer) y = layer_norm(y, o.norm_scale, o.norm_shift);
  if (s.norm == NormKind::rms) y = rms_norm(y, o.norm_scale);
  if (s.norm == NormKind::ada_rms) y = ada_rms_norm(y, o.norm_scale, o.norm_shift);
  y = linear(y, o.w, o.bias);
  if (s.activation == Activation::gelu) y = gelu(y);
  if (s.activation == Activation::silu) y = silu(y);
  if (s.activation == Activation::geglu) y = geglu(y);
  if (s.activation == Activation::swiglu) y = swiglu(y);
  if (o.residual) y = residual(o.residual, y, o.gate);
  if (s.rope.head_dim == 0) return {y};
  const int64_t d = s.rope.head_dim, widths[] = {s.rope.heads * d, s.rope.kv_heads * d, s.rope.kv_heads * d};
  const auto parts = split(y, widths);
  return {rope(parts[0], o.table, o.position, d),
          append(o.k_cache, rope(parts[1], o.table, o.position, d), o.position),
          append(o.v_cache, parts[2], o.position)};
}

// The results' values; of caches the appended rows.
std::vector<std::vector<double>> results(const LinearSpec& s, DType dtype, auto&& record) {
  Program p(dtype);
  CaseRecorder c(p, 2);
  const std::vector<Tensor> tensors = record(p, s, linear_operands(c, s));
  p.output("y", tensors[0]);
  const CpuRun run(p, c);
  std::vector<std::vector<double>> values;
  for (Tensor t : tensors) {
    values.push_back(run[t]);
    if (p.info(p.root(t.id)).kind != Kind::state) continue;
    const auto first = values.back().begin() + std::max(s.position, 0) * t.cols();
    values.back() = {first, first + s.m * t.cols()};
  }
  return values;
}

TEST(Linear, FusedFormsEqualTheirComposition) {
  for (const LinearSpec& spec : linear_specs()) {
    for (auto [dtype, tolerance] : kPrecisions) {
      SCOPED_TRACE(fmt::format("{} in {}", spec.name(), name_of(dtype)));
      const auto fused = results(spec, dtype, record_linear),
                 composed = results(spec, dtype, record_composition);
      ASSERT_EQ(fused.size(), composed.size());
      for (size_t j = 0; j < fused.size(); ++j) {
        ASSERT_EQ(fused[j].size(), composed[j].size());
        // One rounding to the result's type more than the composition, and sums in another order.
        const double bound = 1.01 * tolerance + 1e-7 * double(spec.k);
        expect_matrix(fused[j], 1, bound, [&](int64_t i, int64_t) { return composed[j][size_t(i)]; });
      }
    }
  }
}

TEST(Linear, RejectsNarrowInputsAndBiases) {
  Program p;
  CaseRecorder c(p, 3);
  EXPECT_THROW(linear(c.normal({2, 7}), c.matrix(4, 8)), Error);
  EXPECT_THROW(linear(c.normal({2, 8}), c.matrix(4, 8), c.vector(5)), Error);
}

}  // namespace
}  // namespace flashrt
