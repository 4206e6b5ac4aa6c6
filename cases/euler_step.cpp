// Euler steps.
#include "ops/euler_step.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case step_case(int64_t rows, int64_t cols, bool exact) {
  return {.op = "euler_step",
          .name = fmt::format("{}x{}{}", rows, cols, exact ? " f32" : ""),
          .record =
              [=](CaseRecorder& c) {
                const Tensor x = c.normal_of(DType::f32, {rows, cols});
                euler_step(x, exact ? c.normal_of(DType::f32, {rows, cols}) : c.normal({rows, cols}), -0.1f);
              },
          .tolerance_f32 = 2};
}

}  // namespace

std::vector<Case> euler_step_cases() {
  return {step_case(1, 1, true), step_case(50, 32, true), step_case(10, 7, false), step_case(51, 14, true)};
}

}  // namespace flashrt
