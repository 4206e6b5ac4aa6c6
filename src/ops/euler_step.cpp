// Definition of the Euler step.
#include "ops/euler_step.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const float dt = call.attrs<float>();
  for (int64_t i = 0; i < call.out_shape(0).size(); ++i)
    call.out(0)[i] = call.f32(0)[i] + dt * call.f32(1)[i];
}

std::string describe(const Line& line) { return fmt::format("dt={}", line.attrs<float>()); }

}  // namespace

const OpDef kEulerStepOp{.name = "euler_step", .reference = reference, .describe = describe, .in_place = 0};

Tensor euler_step(Tensor x, Tensor v, float dt, At at) {
  require(x.shape() == v.shape() && x.dtype() == DType::f32, at, "euler_step: x f32 [{}, {}], v [{}, {}]",
          x.rows(), x.cols(), v.rows(), v.cols());
  Program& program = *x.program;
  const Tensor y = program.temp(x.shape(), DType::f32);
  program.record(kEulerStepOp, {x, v}, {y}, dt, at);
  return y;
}

}  // namespace flashrt
