// Definition of the residual addition.
#include "ops/residual.h"

#include "base/threads.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const Shape shape = call.out_shape(0);
  const int64_t period = call.in_shape(0).rows;
  parallel_for(shape.rows, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *x = call.f32(0) + (r % period) * shape.cols, *y = call.f32(1) + r * shape.cols;
      float* out = call.out(0) + r * shape.cols;
      for (int64_t c = 0; c < shape.cols; ++c) out[c] = x[c] + (call.has(2) ? call.f32(2)[c] : 1.f) * y[c];
    }
  });
}

double flops(const Program& program, const Line& line) {
  return 2.0 * double(program.info(line.out[0]).shape.size());
}

}  // namespace

const OpDef kResidualOp{.name = "residual", .reference = reference, .flops = flops, .in_place = 0};

Tensor residual(Tensor x, Tensor y, Tensor gate, At at) {
  require(x.cols() == y.cols() && y.rows() % x.rows() == 0, at, "residual: [{}, {}] + [{}, {}]", x.rows(),
          x.cols(), y.rows(), y.cols());
  require(!gate || gate.shape() == Shape{1, x.cols()}, at, "residual: gate must be [1, {}]", x.cols());
  Program& program = *y.program;
  const Tensor out = program.temp(y.shape(), program.compute());
  program.record(kResidualOp, {x, y, gate}, {out}, 0, at);
  return out;
}

}  // namespace flashrt
