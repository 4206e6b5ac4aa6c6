// Definition of the fused step, and the pattern that finds it.
#include "ops/flow_step.h"

#include <algorithm>
#include <vector>

#include "ops/euler_step.h"
#include "ops/fusion.h"
#include "ops/linear.h"
#include "ops/matmul.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const auto attrs = call.attrs<FlowStepAttrs>();
  const Shape hidden = call.in_shape(kFlowHidden);
  const int64_t actions = call.out_shape(0).cols;
  thread_local std::vector<float> normed, velocity;  // grow once
  normed.resize(std::max(normed.size(), size_t(hidden.size())));
  velocity.resize(std::max(velocity.size(), size_t(call.out_shape(0).size())));
  for (int64_t r = 0; r < hidden.rows; ++r) {
    normalize_row(attrs.norm, call.f32(kFlowHidden) + r * hidden.cols, call.f32(kFlowNormScale),
                  call.f32(kFlowNormShift), hidden.cols, normed.data() + r * hidden.cols);
  }
  const auto product = [&](const float* x, int64_t width, int matrix, float* y) {
    const DType rounded = call.in_dtype(size_t(matrix));
    matmul_transposed(x, hidden.rows, width, *call.weight(size_t(matrix)), rounded, y);
  };
  product(normed.data(), hidden.cols, kFlowOut, velocity.data());
  for (int64_t r = 0; r < hidden.rows; ++r) {
    for (int64_t a = 0; a < actions; ++a) {
      const int64_t i = r * actions + a;
      const float v = velocity[size_t(i)] + (call.has(kFlowOutBias) ? call.f32(kFlowOutBias)[a] : 0.f);
      call.out(0)[i] = call.f32(kFlowX)[i] + attrs.dt * v;
    }
  }
  if (call.line.out.size() < 2) return;
  product(call.out(0), actions, kFlowIn, call.out(1));
  const Shape y = call.out_shape(1);
  for (int64_t i = 0; call.has(kFlowInBias) && i < y.size(); ++i)
    call.out(1)[i] += call.f32(kFlowInBias)[i % y.cols];
}

std::string describe(const Line& line) { return fmt::format("dt={}", line.attrs<FlowStepAttrs>().dt); }

double flops(const Program& program, const Line& line) {
  const double rows = double(program.info(line.out[0]).shape.rows);
  double size = double(program.info(line.in[kFlowOut]).shape.size());
  if (line.has(kFlowIn)) size += double(program.info(line.in[kFlowIn]).shape.size());
  return 2 * rows * size;
}

bool is_plain(const Line& line) {  // a linear of x, w and perhaps a bias
  const auto attrs = line.attrs<LinearAttrs>();
  return line.op == &kLinearOp && attrs.norm.kind == NormKind::none && attrs.activation == Activation::none &&
         attrs.rope.head_dim == 0 && !line.has(kResidual);
}

}  // namespace

const OpDef kFlowStepOp{.name = "flow_step",
                        .reference = reference,
                        .flops = flops,
                        .describe = describe,
                        .in_place = kFlowX,
                        .streamed = 1u << kFlowOut | 1u << kFlowIn};

bool fuse_flow_step(FuseContext& context, size_t index) {
  Program& program = context.program;
  const Line& step = program.lines[index];
  if (step.op != &kEulerStepOp || context.uses[size_t(step.in[1])] != 1) return false;
  const int out = context.writer(step.in[1], index);
  if (out < 0 || !is_plain(program.lines[size_t(out)])) return false;
  const Line& projection = program.lines[size_t(out)];
  if (context.uses[size_t(projection.in[kX])] != 1) return false;
  const int norm = context.writer(projection.in[kX], size_t(out));
  if (norm < 0 || program.lines[size_t(norm)].op != &kNormOp) return false;
  const Line& normed = program.lines[size_t(norm)];

  Line fused{.op = &kFlowStepOp, .at = step.at, .stage = step.stage};
  fused.set_attrs(FlowStepAttrs{normed.attrs<NormAttrs>(), step.attrs<float>()});
  fused.in.assign(kFlowOperands, -1);
  std::copy(normed.in.begin(), normed.in.end(), fused.in.begin() + kFlowHidden);
  fused.in[kFlowOut] = projection.in[kW], fused.in[kFlowOutBias] = projection.in[kBias];
  fused.in[kFlowX] = step.in[0];
  fused.out = step.out;
  int next = -1;
  for (size_t i = index + 1; i < program.lines.size() && next < 0; ++i) {
    const Line& line = program.lines[i];
    if (line.op != nullptr && is_plain(line) && line.in[kX] == step.out[0]) next = int(i);
  }
  if (next >= 0) {
    const Line& entry = program.lines[size_t(next)];
    fused.in[kFlowIn] = entry.in[kW], fused.in[kFlowInBias] = entry.in[kBias];
    fused.out.push_back(entry.out[0]);
  }
  if (!context.supported(program, fused)) return false;
  for (int line : {norm, out, next}) {
    if (line >= 0) program.lines[size_t(line)].op = nullptr;
  }
  program.lines[index] = std::move(fused);
  context.refresh();
  return true;
}

}  // namespace flashrt
