// The fused denoising step against its unfused composition, and the pattern that finds it.
#include "ops/flow_step.h"

#include "ops/euler_step.h"
#include "ops/fusion.h"
#include "ops/linear.h"
#include "tests/ops/cpu_run.h"

namespace flashrt {
namespace {

// Two steps as a model records them; the first is followed by the projection into the second.
struct Steps {
  Program p{DType::f32};
  CaseRecorder c{p, 5};
  Tensor second;

  Steps() {
    const Tensor w_out = c.matrix(6, 24, 0.2f), b_out = c.vector(6), w_in = c.matrix(24, 6, 0.4f),
                 b_in = c.vector(24);
    const Tensor h = c.normal({5, 24}), x = c.normal_of(DType::f32, {5, 6});
    const auto velocity = [&](Tensor hidden) {
      return linear(ada_rms_norm(hidden, c.vector(24), c.vector(24)), w_out, b_out);
    };
    const Tensor first = euler_step(x, velocity(h), -0.5f);
    second = euler_step(first, velocity(linear(first, w_in, b_in)), -0.5f);
    p.output("x", second);
  }
};

TEST(FlowStep, FusedEqualsComposition) {
  Steps plain, fused;
  const Pattern patterns[] = {fuse_flow_step};
  EXPECT_EQ(fuse(fused.p, patterns, [](const Program&, const Line&) { return true; }), 2);
  ASSERT_EQ(fused.p.lines.size(), 2u);
  EXPECT_EQ(fused.p.lines[0].op, &kFlowStepOp);
  EXPECT_EQ(fused.p.lines[0].out.size(), 2u);
  EXPECT_EQ(fused.p.lines[1].out.size(), 1u);
  const CpuRun a(plain.p, plain.c), b(fused.p, fused.c);
  const auto want = a[plain.second], got = b[fused.second];
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5 * (1 + std::abs(want[i])));
}

TEST(FlowStep, IsLeftAloneWhereTheDeviceCannot) {
  Steps steps;
  const size_t before = steps.p.lines.size();
  const Pattern patterns[] = {fuse_flow_step};
  EXPECT_EQ(fuse(steps.p, patterns, [](const Program&, const Line&) { return false; }), 0);
  EXPECT_EQ(steps.p.lines.size(), before);
}

}  // namespace
}  // namespace flashrt
