// The fused denoising step.
#include "ops/flow_step.h"

#include <cmath>

#include "cases/all.h"

namespace flashrt {

namespace {

// `last`: no projection into the next step.
Case step_case(int64_t rows, int64_t width, int64_t actions, NormKind norm, bool last) {
  return {
      .op = "flow_step",
      .name = fmt::format("{}x{} {} actions{}{}", rows, width, actions,
                          norm == NormKind::ada_rms ? " ada" : "", last ? " last" : ""),
      .record =
          [=](CaseRecorder& c) {
            Program& p = c.p;
            const float scale = 1.f / std::sqrt(float(width));
            std::vector<Tensor> in(kFlowOperands);
            in[kFlowHidden] = c.normal({rows, width});
            in[kFlowNormScale] = c.vector(width);
            if (norm == NormKind::ada_rms) in[kFlowNormShift] = c.vector(width);
            in[kFlowOut] = c.matrix(actions, width, scale);
            in[kFlowOutBias] = c.vector(actions);
            in[kFlowX] = c.normal_of(DType::f32, {rows, actions});
            std::vector<Tensor> out{p.temp({rows, actions}, DType::f32)};
            if (!last) {
              in[kFlowIn] = c.matrix(width, actions, 0.2f);
              in[kFlowInBias] = c.vector(width);
              out.push_back(p.temp({rows, width}, p.compute()));
            }
            p.record(kFlowStepOp, in, out, FlowStepAttrs{{norm, 1e-6f}, -0.1f}, At::current());
          },
      // The f32 state is compared in f32 units, but the normalised rows are rounded to the half type first.
      .tolerance = 3,
      .tolerance_f32 = 1 << 15};
}

}  // namespace

std::vector<Case> flow_step_cases() {
  return {step_case(1, 64, 32, NormKind::ada_rms, false), step_case(10, 1024, 32, NormKind::ada_rms, false),
          step_case(50, 1000, 32, NormKind::rms, false), step_case(51, 72, 32, NormKind::ada_rms, true)};
}

}  // namespace flashrt
