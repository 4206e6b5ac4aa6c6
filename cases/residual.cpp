// Residual additions: plain, gated, with a repeating table, of mixed types.
#include "ops/residual.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case residual_case(int64_t rows, int64_t cols, int64_t period, bool gate, bool bench = false) {
  return {.op = "residual",
          .name = fmt::format("{}x{} period {}{}", rows, cols, period, gate ? " gated" : ""),
          .record =
              [=](CaseRecorder& c) {
                const Tensor x = c.normal({period, cols}), y = c.normal({rows, cols});
                residual(x, y, gate ? c.vector(cols) : Tensor{});
              },
          .tolerance_f32 = 2,
          .bench = bench};
}

Case table_case(int64_t rows, int64_t cols, int64_t period) {
  return {.op = "residual",
          .name = fmt::format("{}x{} on a table of {} rows", rows, cols, period),
          .record =
              [=](CaseRecorder& c) {
                residual(c.matrix(period, cols, 1), c.normal({rows, cols}));
              },
          .tolerance_f32 = 2};
}

Case mixed_case() {
  return {.op = "residual",
          .name = "9x40 gated, f32 stream",
          .record =
              [](CaseRecorder& c) {
                const Tensor x = c.normal_of(DType::f32, {9, 40}), y = c.normal({9, 40}),
                             gate = c.normal({1, 40});
                const auto exact = c.p.exact();
                residual(x, y, gate);
              },
          .tolerance_f32 = 2};
}

}  // namespace

std::vector<Case> residual_cases() {
  std::vector<Case> cases;
  for (bool gate : {false, true}) {
    for (auto [rows, cols, period] :
         {std::array<int64_t, 3>{1, 1, 1}, {3, 7, 3}, {6, 33, 2}, {51, 1024, 51}, {12, 72, 4}}) {
      cases.push_back(residual_case(rows, cols, period, gate));
    }
  }
  cases.push_back(table_case(12, 72, 4));
  cases.push_back(table_case(6, 13, 3));  // rows of the stored table are padded
  cases.push_back(mixed_case());
  cases.push_back(residual_case(968, 2048, 968, false, true));
  return cases;
}

}  // namespace flashrt
