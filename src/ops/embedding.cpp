// Definition of the embedding lookup.
#include "ops/embedding.h"

#include <cmath>

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const float scale = call.attrs<float>();
  const Shape shape = call.out_shape(0);
  const Weight& table = *call.weight(1);
  for (int64_t r = 0; r < shape.rows; ++r) {
    const int64_t id = call.i32(0)[r];
    const bool inside = id >= 0 && id < table.shape.rows;
    for (int64_t c = 0; c < shape.cols; ++c) {
      const Weight::Part& part = table.parts[0];
      call.out(0)[r * shape.cols + c] =
          inside ? scale * load_float(part.data, part.dtype, size_t(id * part.stride + c)) : NAN;
    }
  }
}

std::string describe(const Line& line) { return fmt::format("scale={}", line.attrs<float>()); }

}  // namespace

const OpDef kEmbeddingOp{
    .name = "embedding", .reference = reference, .describe = describe, .streamed = 1u << 1};

Tensor embedding(Tensor ids, Tensor table, float scale, At at) {
  require(ids.dtype() == DType::i32 && ids.rows() == 1, at, "embedding: ids must be i32 [1, n]");
  Program& program = *ids.program;
  require(table.dtype() != DType::u8, at, "embedding: the table must hold plain elements");
  const Tensor y = program.temp({ids.cols(), table.cols()}, program.compute());
  program.record(kEmbeddingOp, {ids, table}, {y}, scale, at);
  return y;
}

}  // namespace flashrt
