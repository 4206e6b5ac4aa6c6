// Each fusion pattern: where it applies, where it must not, and that the device's table has the last word.
#include <gtest/gtest.h>

#include <algorithm>

#include "cases/cases.h"
#include "ops/append.h"
#include "ops/attention.h"
#include "ops/concat.h"
#include "ops/euler_step.h"
#include "ops/flow_step.h"
#include "ops/fusion.h"
#include "ops/linear.h"
#include "ops/residual.h"
#include "ops/split.h"

namespace flashrt {
namespace {

bool always(const Program&, const Line&) { return true; }

// The ops left, in order.
std::vector<std::string> ops(const Program& program) {
  std::vector<std::string> names;
  for (const Line& line : program.lines) names.emplace_back(line.op->name);
  return names;
}

using Names = std::vector<std::string>;

struct Recorded {
  Program p;
  CaseRecorder c{p, 1};
  Names fused(std::function<bool(const Program&, const Line&)> supported = always) {
    fuse(p, kPatterns, supported);
    return ops(p);
  }
};

TEST(Fuse, LinearTakesActivationAndResidual) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16});
  const Tensor hidden = gelu(linear(x, r.c.matrix(32, 16), r.c.vector(32)));
  r.p.output("y", residual(x, linear(hidden, r.c.matrix(16, 32)), r.c.vector(16)));
  EXPECT_EQ(r.fused(), (Names{"linear", "linear"}));
  EXPECT_EQ(r.p.lines[0].attrs<LinearAttrs>().activation, Activation::gelu);
  EXPECT_EQ(r.p.lines[1].in[kResidual], x.id);
  EXPECT_TRUE(r.p.lines[1].has(kGate));
}

TEST(Fuse, ADeviceWithoutTheKernelKeepsTheLines) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16});
  r.p.output("y", gelu(linear(x, r.c.matrix(32, 16))));
  EXPECT_EQ(r.fused([](const Program&, const Line&) { return false; }), (Names{"linear", "activation"}));
}

// Read twice, the product must exist on its own.
TEST(Fuse, ASharedProductStays) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16}), y = linear(x, r.c.matrix(16, 16));
  r.p.output("y", residual(gelu(y), silu(y)));
  EXPECT_EQ(r.fused(), (Names{"linear", "activation", "activation", "residual"}));
}

TEST(Fuse, AnOutputStays) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16}), y = linear(x, r.c.matrix(16, 16));
  r.p.output("product", y);
  r.p.output("y", gelu(y));
  EXPECT_EQ(r.fused(), (Names{"linear", "activation"}));
}

// A view of the product is a reader too.
TEST(Fuse, AViewedProductStays) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16}), y = linear(x, r.c.matrix(16, 16));
  r.p.output("view", silu(r.p.rows(y, 1, 2)));
  r.p.output("y", gelu(y));
  EXPECT_EQ(r.fused(), (Names{"linear", "activation", "activation"}));
}

// residual(product, x) adds to the product, not the product to x: it cannot become an epilogue.
TEST(Fuse, OnlyTheAddendFuses) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16});
  r.p.output("y", residual(linear(x, r.c.matrix(16, 16)), x));
  EXPECT_EQ(r.fused(), (Names{"linear", "residual"}));
}

TEST(Fuse, NormBecomesThePrologueOfItsOnlyReader) {
  Recorded r;
  const Tensor x = r.c.normal({4, 16}), h = rms_norm(x, r.c.vector(16));
  r.p.output("y", linear(h, r.c.matrix(32, 16)));
  EXPECT_EQ(r.fused(), (Names{"linear"}));
  EXPECT_EQ(r.p.lines[0].attrs<LinearAttrs>().norm.kind, NormKind::rms);

  Recorded two;
  const Tensor z = two.c.normal({4, 16}), n = rms_norm(z, two.c.vector(16));
  two.p.output("y", linear(n, two.c.matrix(16, 16)));
  two.p.output("z", linear(n, two.c.matrix(8, 16)));
  EXPECT_EQ(two.fused(), (Names{"norm", "linear", "linear"}));
}

TEST(Fuse, AttentionReadsPackedProjections) {
  Recorded r;
  const Tensor packed = linear(r.c.normal({6, 16}), r.c.matrix(48, 16));
  const int64_t widths[] = {16, 16, 16};
  const auto qkv = split(packed, widths);
  r.p.output("y",
             attention(qkv[0], qkv[1], qkv[2], {}, {.heads = 2, .kv_heads = 2, .head_dim = 8, .keys = 6}));
  EXPECT_EQ(r.fused(), (Names{"linear", "attention"}));
  const auto attrs = r.p.lines[1].attrs<AttentionAttrs>();
  EXPECT_EQ(attrs.q_col, 0);
  EXPECT_EQ(attrs.k_col, 16);
  EXPECT_EQ(attrs.v_col, 32);
}

// split → rope, rope → append, append becomes part of the projection.
TEST(Fuse, ProjectionRotatesAndAppends) {
  Recorded r;
  const Tensor x = r.c.normal({3, 16}), position = r.c.integer(2);
  const Tensor table = rope_table(r.p, 8, 8, 10000);
  const int64_t widths[] = {16, 8, 8};
  const auto qkv = split(linear(x, r.c.matrix(32, 16)), widths);
  const Tensor q = rope(qkv[0], table, position, 8);
  const Tensor k = append(r.p.buffer("k", {8, 8}, DType::f32), rope(qkv[1], table, position, 8), position);
  const Tensor v = append(r.p.buffer("v", {8, 8}, DType::f32), qkv[2], position);
  r.p.output("y", attention(q, k, v, position, {.heads = 2, .kv_heads = 1, .head_dim = 8, .keys = 3}));
  EXPECT_EQ(r.fused(), (Names{"linear", "attention"}));
  const auto attrs = r.p.lines[0].attrs<LinearAttrs>();
  EXPECT_EQ(attrs.rope.heads, 2);
  EXPECT_EQ(attrs.rope.kv_heads, 1);
  EXPECT_EQ(r.p.lines[0].out, (std::vector<int>{q.id, k.id, v.id}));
}

// Without a kernel for the fused projection, the rotation still swallows the copies.
TEST(Fuse, FallsBackToRotateAndAppend) {
  Recorded r;
  const Tensor x = r.c.normal({3, 16}), position = r.c.integer(2);
  const Tensor table = rope_table(r.p, 8, 8, 10000);
  const int64_t widths[] = {16, 8, 8};
  const auto qkv = split(linear(x, r.c.matrix(32, 16)), widths);
  const Tensor q = rope(qkv[0], table, position, 8);
  const Tensor k = append(r.p.buffer("k", {8, 8}, DType::f32), rope(qkv[1], table, position, 8), position);
  const Tensor v = append(r.p.buffer("v", {8, 8}, DType::f32), qkv[2], position);
  r.p.output("y", attention(q, k, v, position, {.heads = 2, .kv_heads = 1, .head_dim = 8, .keys = 3}));
  const auto no_linear = [](const Program&, const Line& line) { return line.op != &kLinearOp; };
  EXPECT_EQ(r.fused(no_linear), (Names{"linear", "rope_append", "attention"}));
}

// The end of a denoising step and the start of the next; the last step has no next.
TEST(Fuse, DenoisingStepsMeetInOneLine) {
  Recorded r;
  const Tensor w_in = r.c.matrix(16, 8), w_out = r.c.matrix(8, 16), scale = r.c.vector(16);
  Tensor x = r.c.normal({3, 8});
  for (int step = 0; step < 2; ++step) {
    const Tensor h = silu(linear(x, w_in, r.c.vector(16)));
    x = euler_step(x, linear(rms_norm(h, scale), w_out, r.c.vector(8)), -0.5f);
  }
  linear(x, w_in);  // nobody reads it, so it is not there when patterns look
  r.p.output("y", x);
  drop_dead(r.p);
  EXPECT_EQ(r.fused(), (Names{"linear", "flow_step", "linear", "flow_step"}));
  EXPECT_EQ(r.p.lines.back().out.size(), 1u);

  Recorded plain;  // as a model writes it: the projection stands alone, its activation comes later
  Tensor z = plain.c.normal({3, 8});
  const Tensor in = plain.c.matrix(16, 8), out = plain.c.matrix(8, 16), norm = plain.c.vector(16);
  for (int step = 0; step < 2; ++step) {
    const Tensor h = linear(z, in);
    z = euler_step(z, linear(rms_norm(residual(h, h), norm), out), -0.5f);
  }
  plain.p.output("y", z);
  EXPECT_EQ(plain.fused(), (Names{"linear", "residual", "flow_step", "residual", "flow_step"}));
}

// Producers write into the concatenation: no copy is left.
TEST(Fuse, ConcatenationIsPlacement) {
  Recorded r;
  const Tensor x = r.c.normal({2, 16});
  const Tensor both = concat({silu(x), gelu(x)});
  r.p.output("y", rms_norm(both, r.c.vector(16)));
  EXPECT_EQ(r.fused(), (Names{"activation", "activation", "norm"}));
}

// An input cannot be written elsewhere: the copy stays.
TEST(Fuse, AnInputIsCopied) {
  Recorded r;
  const Tensor x = r.c.normal({2, 16});
  r.p.output("y", rms_norm(concat({x, gelu(x)}), r.c.vector(16)));
  const Names left = r.fused();
  EXPECT_EQ(std::ranges::count(left, "concat"), 1);
}

}  // namespace
}  // namespace flashrt
