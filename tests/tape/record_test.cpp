// Recording: views, versions, source lines, exact stretches, and the rules that break with a message.
#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/append.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/residual.h"

namespace flashrt {
namespace {

TEST(Record, ViewsShareTheirRootsMemory) {
  Program p(DType::bf16);
  const Tensor x = p.input("x", {8, 6}, DType::bf16);
  const Tensor rows = p.rows(x, 2, 4), inner = p.rows(rows, 1, 2), flat = p.reshape(inner, {1, 12});
  EXPECT_EQ(p.root(flat.id), x.id);
  EXPECT_EQ(p.root_byte_offset(rows.id), 2 * 6 * 2);
  EXPECT_EQ(p.root_byte_offset(inner.id), 3 * 6 * 2);
  EXPECT_EQ(p.root_byte_offset(flat.id), 3 * 6 * 2);
  EXPECT_EQ(flat.shape(), (Shape{1, 12}));
  EXPECT_TRUE(p.lines.empty()) << "a view is no line";
}

TEST(Record, RowsOfAReshapedViewCountItsOwnColumns) {
  Program p;
  const Tensor x = p.input("x", {2, 12}, DType::f32);
  const Tensor second = p.rows(x, 1, 1), parts = p.reshape(second, {3, 4});
  EXPECT_EQ(p.root_byte_offset(p.rows(parts, 2, 1).id), (12 + 2 * 4) * 4);
}

TEST(Record, ViewsStayInside) {
  Program p;
  const Tensor x = p.input("x", {4, 3}, DType::f32);
  EXPECT_THROW(p.rows(x, 2, 3), Error);
  EXPECT_THROW(p.rows(x, -1, 2), Error);
  EXPECT_THROW(p.rows(x, 1, 0), Error);
  EXPECT_THROW(p.reshape(x, {5, 2}), Error);
}

TEST(Record, LinesKnowTheModelsSourceLine) {
  Program p;
  const Tensor x = p.input("x", {4, 3}, DType::f32);
  const int here = __LINE__ + 1;
  silu(x);
  ASSERT_EQ(p.lines.size(), 1u);
  EXPECT_EQ(to_string(p.lines[0].at), "record_test.cpp:" + std::to_string(here));
}

TEST(Record, ABrokenShapeRuleNamesTheSourceLine) {
  Program p;
  const Tensor x = p.input("x", {4, 3}, DType::f32);
  const Tensor w = p.constant("w", {2, 5}, std::vector<float>(10));
  const int here = __LINE__ + 2;
  try {
    linear(x, w);
    FAIL() << "columns differ";
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find("record_test.cpp:" + std::to_string(here)), what.npos) << what;
    EXPECT_NE(what.find("linear"), what.npos) << what;
    EXPECT_NE(what.find("[4, 3]"), what.npos) << what;
  }
}

TEST(Record, ExactStretchesAreF32) {
  Program p(DType::bf16);
  const Tensor x = p.input("x", {4, 8}, DType::bf16);
  EXPECT_EQ(silu(x).dtype(), DType::bf16);
  {
    const auto exact = p.exact();
    EXPECT_EQ(silu(x).dtype(), DType::f32);
  }
  EXPECT_EQ(silu(x).dtype(), DType::bf16);
}

TEST(Record, AVersionIsTheSameMemory) {
  Program p;
  const Tensor x = p.input("x", {4, 8}, DType::f32);
  const Tensor cache = p.buffer("cache", {16, 8}, DType::f32);
  const Tensor next = append(cache, x, {});
  EXPECT_NE(next.id, cache.id);
  EXPECT_EQ(p.root(next.id), cache.id);
}

TEST(Record, StagesGroupTheLinesThatFollow) {
  Program p;
  const Tensor x = p.input("x", {4, 8}, DType::f32);
  p.stage("vision");
  const Tensor y = silu(x);
  p.stage("action");
  residual(y, x);
  ASSERT_EQ(p.lines.size(), 2u);
  EXPECT_EQ(p.stages[size_t(p.lines[0].stage)], "vision");
  EXPECT_EQ(p.stages[size_t(p.lines[1].stage)], "action");
}

// Weights are counted apart from activations; a product costs 2·m·n·k.
TEST(Record, CostsAreTheOperandsBytes) {
  Program p(DType::bf16);
  const Tensor x = p.input("x", {4, 32}, DType::bf16);
  static const std::byte memory[16 * 32 * 2] = {};
  const Tensor w = p.weight({.name = "w", .shape = {16, 32}, .parts = {{memory, DType::bf16, 16, 32}}});
  linear(x, w);
  const Cost cost = p.cost(p.lines[0]);
  EXPECT_EQ(cost.weight_bytes, 16 * 32 * 2);
  EXPECT_EQ(cost.bytes, 16 * 32 * 2 + 4 * 32 * 2 + 4 * 16 * 2);
  EXPECT_EQ(cost.flops, 2.0 * 4 * 32 * 16);
}

}  // namespace
}  // namespace flashrt
