// Concatenations of rows.
#include "ops/concat.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case concat_case(std::vector<int64_t> rows, int64_t cols) {
  return {.op = "concat",
          .name = fmt::format("{} rows of {}", fmt::join(rows, " + "), cols),
          .record =
              [=](CaseRecorder& c) {
                std::vector<Tensor> parts;
                for (int64_t count : rows) parts.push_back(c.normal({count, cols}));
                concat(parts);
              },
          .tolerance = 0,
          .tolerance_f32 = 0};
}

}  // namespace

std::vector<Case> concat_cases() {
  return {concat_case({1, 1}, 1), concat_case({3, 5, 2}, 7), concat_case({1, 50}, 1024),
          concat_case({4, 1}, 12)};
}

}  // namespace flashrt
