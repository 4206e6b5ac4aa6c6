// Mixtures of experts: one row and several, few experts and many, ties, shares that sum to one or not.
#include "ops/experts.h"

#include <cmath>

#include "cases/all.h"

namespace flashrt {

namespace {

struct Spec {
  int64_t rows, width, hidden, experts;
  int32_t used;
  bool normalise = true;
  Activation activation = Activation::swiglu;
};

void record(CaseRecorder& c, const Spec& s) {
  const Tensor x = c.normal({s.rows, s.width});
  const Tensor router = c.normal_of(DType::f32, {s.rows, s.experts});
  experts(x, router, c.matrix(s.experts * 2 * s.hidden, s.width, 1.f / std::sqrt(float(s.width))),
          c.matrix(s.experts * s.width, s.hidden, 1.f / std::sqrt(float(s.hidden))),
          {.used = s.used, .normalise = s.normalise ? 1 : 0, .activation = s.activation});
}

}  // namespace

std::vector<Case> experts_cases() {
  std::vector<Case> cases;
  for (const Spec& s :
       {Spec{1, 8, 8, 2, 1}, Spec{1, 12, 6, 3, 2}, Spec{3, 64, 40, 12, 3, false},
        Spec{1, 256, 776, 8, 2, true, Activation::geglu}, Spec{2, 512, 768, 128, 8}, Spec{17, 48, 72, 6, 6},
        Spec{1, 2048, 768, 16, 8}, Spec{5, 24, 8, 3, 1}, Spec{70, 136, 200, 3, 1, false},
        Spec{150, 264, 72, 40, 5, true, Activation::geglu}, Spec{33, 512, 328, 128, 8}}) {
    cases.push_back({.op = "experts",
                     .name = fmt::format("{}x{} hidden {}, {} of {}{}", s.rows, s.width, s.hidden, s.used,
                                         s.experts, s.normalise ? "" : " as they are"),
                     .record = [=](CaseRecorder& c) { record(c, s); },
                     .tolerance = 3,  // what lies between the matrices is rounded to the half type
                     .tolerance_f32 = 128});
  }
  return cases;
}

}  // namespace flashrt
