// Definition of the append.
#include "ops/append.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const Shape shape = call.in_shape(0);
  const int64_t position = call.has(1) ? *call.i32(1) : 0;
  for (int64_t i = 0; i < shape.size(); ++i) {
    store_float(call.raw_out(0), call.out_dtype(0), size_t(position * shape.cols + i), call.f32(0)[i]);
  }
}

}  // namespace

const OpDef kAppendOp{.name = "append", .reference = reference};

Tensor append(Tensor cache, Tensor x, Tensor position, At at) {
  require(cache.cols() == x.cols() && x.rows() <= cache.rows(), at, "append: [{}, {}] to a cache [{}, {}]",
          x.rows(), x.cols(), cache.rows(), cache.cols());
  Program& program = *x.program;
  const Tensor next = program.version(cache);
  program.record(kAppendOp, {x, position, cache}, {next}, 0, at);
  return next;
}

}  // namespace flashrt
