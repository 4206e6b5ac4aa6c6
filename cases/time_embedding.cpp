// Time features with f64 and f32 arguments.
#include "ops/time_embedding.h"

#include "cases/all.h"

namespace flashrt {

namespace {

// In f32 the argument itself, up to 2π/min_period = 1571, carries an error of 2⁻¹³ that sine and cosine pass
// on.
Case embedding_case(int64_t rows, int64_t n, bool in_double) {
  return {.op = "time_embedding",
          .name = fmt::format("{}x{} {}", rows, n, in_double ? "f64" : "f32"),
          .record =
              [=](CaseRecorder& c) {
                const Tensor t = c.normal_of(DType::f32, {rows, 1}, 0.2f, 0.5f);
                time_embedding(t, n, {.in_double = in_double ? 1 : 0});
              },
          .tolerance_f32 = in_double ? 2. : 0x1p13};
}

}  // namespace

std::vector<Case> time_embedding_cases() {
  std::vector<Case> cases;
  for (bool in_double : {true, false}) {
    for (auto [rows, n] : {std::pair{1, 2}, {1, 6}, {10, 1024}, {3, 34}})
      cases.push_back(embedding_case(rows, n, in_double));
  }
  return cases;
}

}  // namespace flashrt
