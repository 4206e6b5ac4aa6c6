// Appends to a cache.
#include "ops/append.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case append_case(int64_t rows, int64_t cols, int position, int64_t capacity) {
  return {.op = "append",
          .name = fmt::format("{}x{} at {} of {}", rows, cols, position, capacity),
          .record =
              [=](CaseRecorder& c) {
                const Tensor cache = c.p.buffer("cache", {capacity, cols}, c.p.compute());
                append(cache, c.normal({rows, cols}), position >= 0 ? c.integer(position) : Tensor{});
              },
          .tolerance = 0,
          .tolerance_f32 = 0};
}

}  // namespace

std::vector<Case> append_cases() {
  return {append_case(1, 1, 0, 1), append_case(3, 7, 2, 6), append_case(50, 256, 968, 1018),
          append_case(5, 264, -1, 9), append_case(4, 33, 5, 9)};
}

}  // namespace flashrt
