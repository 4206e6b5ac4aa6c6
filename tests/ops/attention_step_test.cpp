// The fused decode attention against the lines it stands for.
#include "ops/attention_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/philox.h"
#include "ops/append.h"
#include "ops/fusion.h"
#include "ops/norm.h"
#include "ops/split.h"

namespace flashrt {
namespace {

struct Spec {
  int heads, kv_heads, head_dim, position, capacity, window;
  bool norm;
};

// One step as a model records it.
void record(Program& p, const Spec& s) {
  const int64_t d = s.head_dim, q_cols = s.heads * d, kv_cols = s.kv_heads * d;
  const Tensor qkv = p.input("qkv", {1, q_cols + 2 * kv_cols}, DType::f32);
  const Tensor position = p.input("position", {1, 1}, DType::i32);
  const Tensor table = rope_table(p, s.capacity, d, 1e4);
  const Tensor weight = p.constant("norm", {1, d}, std::vector<float>(size_t(d), 0.25f));
  const auto heads = [&](Tensor x) {
    if (!s.norm) return x;
    return p.reshape(rms_norm(p.reshape(x, {x.cols() / d, d}), weight, 1e-5f), x.shape());
  };
  Tensor k = p.buffer("k", {s.capacity, kv_cols}, DType::f32, Kind::state);
  Tensor v = p.buffer("v", {s.capacity, kv_cols}, DType::f32, Kind::state);
  const int64_t widths[] = {q_cols, kv_cols, kv_cols};
  const auto parts = split(qkv, widths);
  const Tensor q = rope(heads(parts[0]), table, position, d);
  k = append(k, rope(heads(parts[1]), table, position, d), position);
  v = append(v, parts[2], position);
  p.output("y", attention(q, k, v, position,
                          {.heads = s.heads,
                           .kv_heads = s.kv_heads,
                           .head_dim = s.head_dim,
                           .keys = 1,
                           .causal = 1,
                           .window = s.window}));
}

// Steps from position 0 on, so that the cache fills as it does in use; the results of the last one.
std::vector<float> run(const Spec& s, bool fused, std::vector<std::string>& ops) {
  Program p;
  record(p, s);
  fold(p);
  if (fused) fuse(p, kPatterns, [](const Program&, const Line&) { return true; });
  for (const Line& line : p.lines) ops.emplace_back(line.op->name);
  ReferenceExecutor executor(p);
  for (int32_t at = 0; at <= s.position; ++at) {
    const auto qkv = executor.input("qkv");
    philox_normal(uint64_t(at), {reinterpret_cast<float*>(qkv.data()), qkv.size() / sizeof(float)});
    std::memcpy(executor.input("position").data(), &at, sizeof at);
    executor.run();
  }
  const auto y = executor.output("y");
  const auto* values = reinterpret_cast<const float*>(y.data());
  return {values, values + y.size() / sizeof(float)};
}

TEST(AttentionStep, EqualsItsLines) {
  for (const Spec& s :
       {Spec{1, 1, 8, 0, 1, 0, false}, Spec{4, 2, 16, 70, 80, 0, true}, Spec{6, 3, 8, 9, 10, 0, false},
        Spec{4, 1, 32, 40, 64, 7, true}, Spec{2, 2, 8, 5, 9, 6, false}}) {
    std::vector<std::string> apart, together;
    const std::vector<float> want = run(s, false, apart), got = run(s, true, together);
    EXPECT_EQ(together, std::vector<std::string>{"attention_step"});
    EXPECT_GT(apart.size(), 5u);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5f * (1 + std::abs(want[i])));
  }
}

// More rows than one, or a value that something else reads too, stay as they are.
TEST(AttentionStep, ASecondReaderKeepsTheLines) {
  Program p;
  record(p, {4, 2, 16, 0, 4, 0, false});
  for (const Line& line : p.lines) {
    if (line.op == &kRopeOp) {
      p.output("rotated", p.handle(line.out[0]));
      break;
    }
  }
  fold(p);
  fuse(p, kPatterns, [](const Program&, const Line&) { return true; });
  EXPECT_TRUE(std::ranges::none_of(p.lines, [](const Line& line) { return line.op == &kAttentionStepOp; }));
}

}  // namespace
}  // namespace flashrt
