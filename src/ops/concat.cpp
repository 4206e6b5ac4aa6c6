// Definition of the concatenation, and its removal.
#include "ops/concat.h"

#include <algorithm>

#include "ops/fusion.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  float* out = call.out(0);
  for (size_t i = 0; i < call.line.in.size(); ++i) {
    out = std::copy(call.f32(i), call.f32(i) + call.in_shape(i).size(), out);
  }
}

}  // namespace

const OpDef kConcatOp{.name = "concat", .reference = reference};

Tensor concat(std::vector<Tensor> parts, At at) {
  if (parts.size() == 1) return parts[0];
  int64_t rows = 0;
  for (Tensor part : parts) {
    require(part.cols() == parts[0].cols() && part.dtype() == parts[0].dtype(), at,
            "concat: [{}, {}] beside [{}, {}]", part.rows(), part.cols(), parts[0].rows(), parts[0].cols());
    rows += part.rows();
  }
  Program& program = *parts[0].program;
  const Tensor out = program.temp({rows, parts[0].cols()}, parts[0].dtype());
  program.record(kConcatOp, parts, {out}, 0, at);
  return out;
}

bool place_concat(FuseContext& context, size_t index) {
  Program& program = context.program;
  Line& line = program.lines[index];
  if (line.op != &kConcatOp) return false;
  const bool movable = std::ranges::all_of(line.in, [&](int id) {
    const TensorInfo& t = program.info(id);
    return t.kind == Kind::temp && t.base == id && context.uses[size_t(id)] == 1;
  });
  if (!movable) return false;
  int64_t row = 0;
  for (int id : line.in) {
    program.tensors[size_t(id)].base = line.out[0];
    program.tensors[size_t(id)].row_begin = row;
    row += program.info(id).shape.rows;
  }
  line.op = nullptr;
  return true;
}

}  // namespace flashrt
