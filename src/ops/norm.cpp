// Definition of the row normalisations.
#include "ops/norm.h"

#include <cmath>

#include "base/threads.h"

namespace flashrt {

void normalize_row(NormAttrs attrs, const float* x, const float* scale, const float* shift, int64_t n,
                   float* y) {
  if (attrs.kind == NormKind::none) {
    std::copy(x, x + n, y);
    return;
  }
  double sum = 0, squares = 0;
  for (int64_t c = 0; c < n; ++c) sum += x[c];
  const float mean = attrs.kind == NormKind::layer ? float(sum / double(n)) : 0.f;
  for (int64_t c = 0; c < n; ++c) squares += double(x[c] - mean) * double(x[c] - mean);
  const float inverse = 1.f / std::sqrt(float(squares / double(n)) + attrs.eps);
  const float one = attrs.kind == NormKind::layer ? 0.f : 1.f;
  for (int64_t c = 0; c < n; ++c) {
    const float gain = scale != nullptr ? one + scale[c] : 1.f;
    y[c] = (x[c] - mean) * inverse * gain + (shift != nullptr ? shift[c] : 0.f);
  }
}

namespace {

void reference(RefCall& call) {
  const auto attrs = call.attrs<NormAttrs>();
  const Shape shape = call.in_shape(0);
  parallel_for(shape.rows, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      normalize_row(attrs, call.f32(0) + r * shape.cols, call.f32(1), call.f32(2), shape.cols,
                    call.out(0) + r * shape.cols);
    }
  });
}

std::string describe(const Line& line) {
  static constexpr const char* names[] = {"none", "layer", "rms", "ada_rms"};
  return fmt::format("{} eps={}", names[int(line.attrs<NormAttrs>().kind)], line.attrs<NormAttrs>().eps);
}

double flops(const Program& program, const Line& line) {
  return 6.0 * double(program.info(line.in[0]).shape.size());
}

Tensor record_norm(Tensor x, Tensor scale, Tensor shift, NormAttrs attrs, At at) {
  for (Tensor v : {scale, shift}) {
    if (v)
      require(v.shape() == Shape{1, x.cols()}, at, "norm: a vector of [{}, {}] for rows of {}", v.rows(),
              v.cols(), x.cols());
  }
  Program& program = *x.program;
  const Tensor y = program.temp(x.shape(), program.compute());
  program.record(kNormOp, {x, scale, shift}, {y}, attrs, at);
  return y;
}

}  // namespace

const OpDef kNormOp{.name = "norm", .reference = reference, .flops = flops, .describe = describe};

Tensor layer_norm(Tensor x, Tensor w, Tensor b, float eps, At at) {
  return record_norm(x, w, b, {NormKind::layer, eps}, at);
}
Tensor rms_norm(Tensor x, Tensor w, float eps, At at) {
  return record_norm(x, w, {}, {NormKind::rms, eps}, at);
}
Tensor ada_rms_norm(Tensor x, Tensor scale, Tensor shift, float eps, At at) {
  return record_norm(x, scale, shift, {NormKind::ada_rms, eps}, at);
}

}  // namespace flashrt
