// Definition of the time embedding.
#include "ops/time_embedding.h"

#include <cmath>
#include <numbers>

namespace flashrt {

namespace {

template <class Real>
void embed(const TimeEmbeddingAttrs& a, float t, int64_t half, float* y) {
  const Real low = Real(a.min_period), high = Real(a.max_period);
  for (int64_t i = 0; i < half; ++i) {
    const Real fraction = half > 1 ? Real(i) / Real(half - 1) : Real(0);
    const Real period = low * std::pow(high / low, fraction);
    const Real argument = Real(1) / period * Real(2) * std::numbers::pi_v<Real> * Real(t);
    y[i] = float(std::sin(argument));
    y[half + i] = float(std::cos(argument));
  }
}

void reference(RefCall& call) {
  const auto a = call.attrs<TimeEmbeddingAttrs>();
  const Shape shape = call.out_shape(0);
  for (int64_t r = 0; r < shape.rows; ++r) {
    float* y = call.out(0) + r * shape.cols;
    if (a.in_double) {
      embed<double>(a, call.f32(0)[r], shape.cols / 2, y);
    } else {
      embed<float>(a, call.f32(0)[r], shape.cols / 2, y);
    }
  }
}

}  // namespace

const OpDef kTimeEmbeddingOp{.name = "time_embedding", .reference = reference};

Tensor time_embedding(Tensor t, int64_t n, TimeEmbeddingAttrs attrs, At at) {
  require(t.cols() == 1 && n % 2 == 0, at, "time_embedding: t [rows, 1] and an even width, got {} and {}",
          t.cols(), n);
  Program& program = *t.program;
  const Tensor y = program.temp({t.rows(), n}, program.compute());
  program.record(kTimeEmbeddingOp, {t}, {y}, attrs, at);
  return y;
}

}  // namespace flashrt
