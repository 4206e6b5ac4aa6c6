// Attention against its formula in double, with every kind of visibility.
#include "ops/attention.h"

#include "ops/split.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

// Whether row r of `rows` sees key j of `keys`, spelled out from the masks' meaning.
bool sees(const AttentionAttrs& a, int64_t r, int64_t rows, int64_t j, int64_t keys) {
  const int64_t prefix = keys - rows;  // keys before the rows' own
  if (j >= keys) return false;
  if (a.window > 0 && a.causal && j <= prefix + r - a.window) return false;
  if (a.causal) return j <= prefix + r;
  if (r < a.lead_rows) return j < prefix + a.lead_rows;
  return true;
}

struct Operands {
  std::vector<double> q, k, v;
};

// out[row, column] of the whole matrix.
double attend(const AttentionAttrs& a, const Operands& o, int64_t rows, int64_t capacity, int64_t keys,
              int64_t row, int64_t column) {
  const int64_t d = a.head_dim, head = column / d, kv_head = head / (a.heads / a.kv_heads),
                segment = row / rows;
  const double scale = a.scale != 0 ? a.scale : 1 / std::sqrt(double(d));
  double sum = 0, weighted = 0;
  for (int64_t j = 0; j < keys; ++j) {
    if (!sees(a, row % rows, rows, j, keys)) continue;
    const size_t key = size_t((segment * capacity + j) * a.kv_heads * d + kv_head * d);
    double logit = 0;
    for (int64_t i = 0; i < d; ++i)
      logit += o.q[size_t(row * a.heads * d + head * d + i)] * o.k[key + size_t(i)];
    const double weight = std::exp(scale * logit);
    sum += weight;
    weighted += weight * o.v[key + size_t(column % d)];
  }
  return sum == 0 ? 0 : weighted / sum;
}

void check(const AttentionAttrs& a, int64_t rows, int64_t capacity, int length) {
  for (auto [dtype, tolerance] : kPrecisions) {
    Program p(dtype);
    CaseRecorder c(p, 1);
    const Tensor q = c.normal({a.segments * rows, a.heads * a.head_dim});
    const Shape cache{a.segments * capacity, a.kv_heads * a.head_dim};
    const Tensor k = c.normal(cache), v = c.normal(cache), count = length >= 0 ? c.integer(length) : Tensor{};
    const Tensor out = attention(q, k, v, count, a);
    p.output("out", out);
    const CpuRun run(p, c);
    const Operands operands{run[q], run[k], run[v]};
    const int64_t keys = std::min<int64_t>(capacity, a.keys + std::max(length, 0));
    expect_matrix(run[out], q.cols(), tolerance, [&](int64_t row, int64_t column) {
      return attend(a, operands, rows, capacity, keys, row, column);
    });
  }
}

TEST(Attention, GroupedHeads) { check({.heads = 6, .kv_heads = 2, .head_dim = 5, .keys = 9}, 4, 9, -1); }
TEST(Attention, Scale) {
  check({.heads = 2, .kv_heads = 2, .head_dim = 4, .keys = 6, .scale = 0.9f}, 3, 6, -1);
}
TEST(Attention, LengthOnTheDevice) { check({.heads = 2, .kv_heads = 1, .head_dim = 6, .keys = 3}, 3, 20, 8); }
TEST(Attention, KeysBeyondTheCapacityDoNotExist) {
  check({.heads = 2, .kv_heads = 1, .head_dim = 6, .keys = 3}, 3, 9, 8);
}
TEST(Attention, NoKeysGiveZeros) { check({.heads = 2, .kv_heads = 1, .head_dim = 6}, 3, 9, 0); }
TEST(Attention, LeadRows) {
  check({.heads = 2, .kv_heads = 1, .head_dim = 4, .keys = 5, .lead_rows = 2}, 5, 16, 7);
}
TEST(Attention, Causal) {
  check({.heads = 2, .kv_heads = 2, .head_dim = 4, .keys = 7, .causal = 1}, 7, 7, -1);
}
TEST(Attention, CausalBehindAPrefix) {
  check({.heads = 2, .kv_heads = 2, .head_dim = 4, .keys = 4, .causal = 1}, 4, 16, 9);
}
TEST(Attention, CausalRowsBeforeTheFirstKeySeeNothing) {
  check({.heads = 2, .kv_heads = 1, .head_dim = 4, .keys = 3, .causal = 1}, 6, 8, -1);
}
TEST(Attention, WindowHidesOldKeys) {
  check({.heads = 2, .kv_heads = 1, .head_dim = 4, .keys = 7, .causal = 1, .window = 3}, 7, 7, -1);
  check({.heads = 2, .kv_heads = 2, .head_dim = 4, .keys = 4, .causal = 1, .window = 5}, 4, 16, 9);
  check({.heads = 2, .kv_heads = 2, .head_dim = 4, .keys = 1, .causal = 1, .window = 1}, 1, 16, 9);
}
TEST(Attention, SegmentsSeeOnlyThemselves) {
  check({.heads = 4, .kv_heads = 2, .head_dim = 4, .segments = 3, .keys = 5}, 5, 7, -1);
}

TEST(Attention, PackedOperandsAreReadInPlace) {
  const int64_t widths[] = {12, 6, 6};
  std::vector<double> results[2];
  for (bool packed : {false, true}) {
    Program p;
    CaseRecorder c(p, 2);
    const Tensor qkv = c.normal({5, 24});
    AttentionAttrs a{.heads = 4, .kv_heads = 2, .head_dim = 3, .keys = 5};
    Tensor out;
    if (packed) {
      a.k_col = 12, a.v_col = 18;
      out = p.temp({5, 12}, DType::f32);
      p.record(kAttentionOp, {qkv, qkv, qkv, Tensor{}}, {out}, a, At::current());
    } else {
      const auto parts = split(qkv, widths);
      out = attention(parts[0], parts[1], parts[2], {}, a);
    }
    p.output("out", out);
    const CpuRun run(p, c);
    results[packed] = run[out];
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(Attention, RejectsOperandsOfOtherWidths) {
  Program p;
  CaseRecorder c(p, 3);
  const AttentionAttrs a{.heads = 4, .kv_heads = 2, .head_dim = 8, .keys = 3};
  EXPECT_THROW(attention(c.normal({3, 24}), c.normal({3, 16}), c.normal({3, 16}), {}, a), Error);
  EXPECT_THROW(attention(c.normal({3, 32}), c.normal({3, 16}), c.normal({3, 8}), {}, a), Error);
  EXPECT_THROW(attention(c.normal({3, 24}), c.normal({3, 16}), c.normal({3, 16}), {},
                         {.heads = 3, .kv_heads = 2, .head_dim = 8}),
               Error);
}

}  // namespace
}  // namespace flashrt
