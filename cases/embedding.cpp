// Lookups, with indices beyond both ends of the table, which give NaN.
#include "ops/embedding.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case embedding_case(int64_t n, int64_t vocabulary, int64_t width, int margin, float scale) {
  return {.op = "embedding",
          .name = fmt::format("{} of {}x{} scale {}{}", n, vocabulary, width, scale,
                              margin > 0 ? ", some outside" : ""),
          .record =
              [=](CaseRecorder& c) {
                embedding(c.integers({1, n}, -margin, int32_t(vocabulary) - 1 + margin),
                          c.matrix(vocabulary, width, 1), scale);
              },
          .tolerance_f32 = 1};
}

}  // namespace

std::vector<Case> embedding_cases() {
  return {embedding_case(1, 1, 1, 0, 1), embedding_case(9, 31, 13, 0, 2),
          embedding_case(200, 517, 2048, 0, 45.254834f), embedding_case(40, 20, 24, 10, 0.5f),
          embedding_case(64, 5, 7, 3, 1)};
}

}  // namespace flashrt
