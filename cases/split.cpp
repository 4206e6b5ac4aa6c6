// Splits into two to four parts, with widths and offsets that are and are not multiples of 8.
#include "ops/split.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case split_case(int64_t rows, std::vector<int64_t> widths) {
  return {.op = "split",
          .name = fmt::format("{} rows into {}", rows, fmt::join(widths, " ")),
          .record =
              [=](CaseRecorder& c) {
                int64_t total = 0;
                for (int64_t width : widths) total += width;
                split(c.normal({rows, total}), widths);
              },
          .tolerance = 0,
          .tolerance_f32 = 0};
}

}  // namespace

std::vector<Case> split_cases() {
  return {split_case(1, {1, 1}), split_case(5, {16, 8, 8}), split_case(3, {7, 9, 16, 2}),
          split_case(4, {8, 3, 8}), split_case(50, {2048, 256, 256})};
}

}  // namespace flashrt
