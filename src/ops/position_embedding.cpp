// Definition of the position embedding.
#include "ops/position_embedding.h"

#include <cmath>

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const Shape shape = call.out_shape(0);
  const int64_t positions = call.in_shape(1).rows, first = call.has(2) ? *call.i32(2) : 0;
  for (int64_t r = 0; r < shape.rows; ++r) {
    const bool inside = first + r >= 0 && first + r < positions;
    for (int64_t c = 0; c < shape.cols; ++c) {
      call.out(0)[r * shape.cols + c] =
          inside ? call.f32(0)[r * shape.cols + c] + call.f32(1)[(first + r) * shape.cols + c] : NAN;
    }
  }
}

double flops(const Program& program, const Line& line) {
  return double(program.info(line.out[0]).shape.size());
}

}  // namespace

const OpDef kPositionEmbeddingOp{
    .name = "position_embedding", .reference = reference, .flops = flops, .in_place = 0};

Tensor position_embedding(Tensor x, Tensor table, Tensor position, At at) {
  require(x.cols() == table.cols(), at, "position_embedding: x has {} columns, the table {}", x.cols(),
          table.cols());
  require(!position || (position.dtype() == DType::i32 && position.shape() == Shape{1, 1}), at,
          "position_embedding: position must be i32 [1, 1]");
  Program& program = *x.program;
  const Tensor y = program.temp(x.shape(), program.compute());
  program.record(kPositionEmbeddingOp, {x, table, position}, {y}, 0, at);
  return y;
}

}  // namespace flashrt
