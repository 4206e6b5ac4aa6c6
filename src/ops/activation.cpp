// Definition of the activations.
#include "ops/activation.h"

#include <cmath>

#include "base/threads.h"

namespace flashrt {

float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::gelu:
    case Activation::geglu:  // (1 + tanh(u))/2 = sigmoid(2u)
      return x / (1.f + std::exp(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    case Activation::silu:
    case Activation::swiglu: return x / (1.f + std::exp(-x));
    default: return x;
  }
}

namespace {

void reference(RefCall& call) {
  const auto kind = call.attrs<Activation>();
  const Shape shape = call.out_shape(0);
  const int64_t width = call.in_shape(0).cols;
  parallel_for(shape.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = call.f32(0) + r * width;
      float* y = call.out(0) + r * shape.cols;
      for (int64_t c = 0; c < shape.cols; ++c)
        y[c] = activate(kind, x[c]) * (is_pair(kind) ? x[shape.cols + c] : 1.f);
    }
  });
}

std::string describe(const Line& line) {
  static constexpr const char* names[] = {"none", "gelu", "silu", "geglu", "swiglu"};
  return names[int(line.attrs<Activation>())];
}

Tensor record_activation(Tensor x, Activation kind, At at) {
  require(!is_pair(kind) || x.cols() % 2 == 0, at, "activation: a pair needs an even width, got {}",
          x.cols());
  Program& program = *x.program;
  const Tensor y = program.temp({x.rows(), is_pair(kind) ? x.cols() / 2 : x.cols()}, program.compute());
  program.record(kActivationOp, {x}, {y}, kind, at);
  return y;
}

double flops(const Program& program, const Line& line) {
  return 10.0 * double(program.info(line.in[0]).shape.size());
}

}  // namespace

const OpDef kActivationOp{
    .name = "activation", .reference = reference, .flops = flops, .describe = describe, .in_place = 0};

Tensor gelu(Tensor x, At at) { return record_activation(x, Activation::gelu, at); }
Tensor silu(Tensor x, At at) { return record_activation(x, Activation::silu, at); }
Tensor geglu(Tensor x, At at) { return record_activation(x, Activation::geglu, at); }
Tensor swiglu(Tensor x, At at) { return record_activation(x, Activation::swiglu, at); }

}  // namespace flashrt
