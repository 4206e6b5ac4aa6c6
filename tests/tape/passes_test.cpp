// Folding and dead code, each on a program where the right answer is plain.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/activation.h"
#include "ops/append.h"
#include "ops/linear.h"
#include "ops/residual.h"
#include "tape/reference.h"

namespace flashrt {
namespace {

std::vector<float> output(Program& program, std::span<const float> x = {}) {
  ReferenceExecutor executor(program, true);
  if (!x.empty()) std::memcpy(executor.input("x").data(), x.data(), x.size_bytes());
  executor.run();
  const auto bytes = executor.output("y");
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// silu(w·c) depends on nothing of the call; the sum with the input does.
TEST(Fold, ComputesWhatDependsOnNoInput) {
  Program p;
  const float w[] = {1, 2, 3, 4, 5, 6};
  const Tensor matrix = p.weight(
      {.name = "w", .shape = {3, 2}, .parts = {{reinterpret_cast<const std::byte*>(w), DType::f32, 3, 2}}});
  const Tensor c = p.constant("c", {1, 2}, {1, -1});
  const Tensor x = p.input("x", {1, 3}, DType::f32);
  p.output("y", residual(x, silu(linear(c, matrix))));
  EXPECT_EQ(fold(p), 2);
  ASSERT_EQ(p.lines.size(), 1u);
  EXPECT_EQ(p.info(p.lines[0].in[1]).kind, Kind::constant);
  const float in[] = {10, 20, 30};
  const std::vector<float> y = output(p, in);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(y[i], in[i] - 1 / (1 + std::exp(1.0)), 1e-5);
}

// Folding rounds as running would: a bf16 line gives bf16 values.
TEST(Fold, RoundsLikeARun) {
  for (bool folded : {false, true}) {
    Program p(DType::bf16);
    const Tensor c = p.constant("c", {1, 1}, {1.234567f});
    const Tensor x = p.input("x", {1, 1}, DType::f32);
    const Tensor hidden = silu(c);
    const auto exact = p.exact();
    p.output("y", residual(x, hidden));
    if (folded) {
      EXPECT_EQ(fold(p), 1);
    }
    const float zero[] = {0};
    const double precise = 1.234567 / (1 + std::exp(-1.234567));
    EXPECT_EQ(output(p, zero)[0], bf16_to_f32(f32_to_bf16(float(precise)))) << folded;
  }
}

// A view of a folded value is known too.
TEST(Fold, SeesThroughViews) {
  Program p;
  const Tensor c = p.constant("c", {2, 2}, {0, 1, 2, 3});
  const Tensor doubled = residual(c, c), row = p.rows(doubled, 1, 1);
  const Tensor x = p.input("x", {1, 2}, DType::f32);
  p.output("y", residual(x, residual(row, row)));
  EXPECT_EQ(fold(p), 2);
  const float in[] = {1, 1};
  EXPECT_EQ(output(p, in), (std::vector<float>{1 + 8, 1 + 12}));
}

TEST(Fold, LeavesWhatReadsAnInput) {
  Program p;
  const Tensor x = p.input("x", {1, 2}, DType::f32);
  p.output("y", silu(x));
  EXPECT_EQ(fold(p), 0);
  EXPECT_EQ(p.lines.size(), 1u);
}

TEST(Dead, DropsWhatReachesNoOutput) {
  Program p;
  const Tensor x = p.input("x", {1, 2}, DType::f32);
  const Tensor used = silu(x);
  residual(silu(used), x);
  p.output("y", residual(used, x));
  EXPECT_EQ(drop_dead(p), 2);
  EXPECT_EQ(p.lines.size(), 2u);
}

// What is appended to a state lives on after the run; what is appended to an unread buffer does not.
TEST(Dead, KeepsStateAndDropsUnreadBuffers) {
  Program p;
  const Tensor x = p.input("x", {1, 2}, DType::f32);
  append(p.buffer("kept", {4, 2}, DType::f32, Kind::state), silu(x), {});
  append(p.buffer("lost", {4, 2}, DType::f32), silu(x), {});
  p.output("y", silu(x));
  EXPECT_EQ(drop_dead(p), 2);
  EXPECT_EQ(p.lines.size(), 3u);
}

// A read view keeps the whole tensor's producer alive.
TEST(Dead, FollowsViewsToTheirBase) {
  Program p;
  const Tensor x = p.input("x", {4, 2}, DType::f32);
  p.output("y", silu(p.reshape(p.rows(silu(x), 1, 2), {1, 4})));
  EXPECT_EQ(drop_dead(p), 0);
}

// In a poisoned arena, memory that no line wrote reads as NaN.
TEST(Reference, PoisonShowsUnwrittenMemory) {
  for (bool poison : {false, true}) {
    Program p;
    const Tensor x = p.input("x", {1, 2}, DType::f32);
    const Tensor cache = append(p.buffer("cache", {2, 2}, DType::f32), x, {});
    p.output("y", residual(p.rows(cache, 1, 1), x));
    ReferenceExecutor executor(p, poison);
    executor.run();
    float y[2];
    std::memcpy(y, executor.output("y").data(), sizeof y);
    EXPECT_EQ(std::isnan(y[0]), poison);
  }
}

TEST(Reference, RunsTwiceTheSame) {
  Program p;
  const Tensor x = p.input("x", {1, 2}, DType::f32);
  p.output("y", residual(silu(x), x));
  ReferenceExecutor executor(p, true);
  const float in[] = {1, 2};
  std::memcpy(executor.input("x").data(), in, sizeof in);
  executor.run();
  const auto view = executor.output("y");
  const std::vector<std::byte> first(view.begin(), view.end());
  executor.run();
  EXPECT_TRUE(std::ranges::equal(first, executor.output("y")));
}

}  // namespace
}  // namespace flashrt
