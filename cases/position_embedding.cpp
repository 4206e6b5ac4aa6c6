// Learned positions from the first on, from the middle, and beyond both ends of the table, which gives NaN.
#include "ops/position_embedding.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case position_case(int64_t rows, int64_t positions, int64_t width, int32_t position) {
  return {.op = "position_embedding",
          .name = fmt::format("{}x{} from {} of {}", rows, width, position, positions),
          .record =
              [=](CaseRecorder& c) {
                const Tensor x = c.normal({rows, width});
                const Tensor table = c.matrix(positions, width, 1);
                position_embedding(x, table, position == 0 ? Tensor{} : c.integer(position));
              },
          .tolerance_f32 = 1};
}

}  // namespace

std::vector<Case> position_embedding_cases() {
  return {position_case(1, 1, 1, 0),          position_case(1, 1024, 768, 700),
          position_case(128, 1024, 1600, 64), position_case(16, 1024, 768, 0),
          position_case(7, 31, 13, 11),       position_case(9, 12, 24, 6),
          position_case(4, 12, 24, -2)};
}

}  // namespace flashrt
