// Definition of the fused linear: the composition, in f32 between its parts.
#include "ops/linear.h"

#include <vector>

#include "base/threads.h"
#include "ops/matmul.h"

namespace flashrt {

namespace {

std::vector<float>& scratch(int which, int64_t size) {
  thread_local std::array<std::vector<float>, 2> buffers;  // grow to the largest line once
  if (int64_t(buffers[size_t(which)].size()) < size) buffers[size_t(which)].resize(size_t(size));
  return buffers[size_t(which)];
}

// bias, activation, residual on one row of y; returns the row's final width.
void finish_row(const RefCall& call, const LinearAttrs& a, int64_t r, float* y, int64_t n, float* out) {
  if (call.has(kBias)) {
    for (int64_t c = 0; c < n; ++c) y[c] += call.f32(kBias)[c];
  }
  const int64_t width = is_pair(a.activation) ? n / 2 : n;
  const float* base =
      call.has(kResidual) ? call.f32(kResidual) + (r % call.in_shape(kResidual).rows) * width : nullptr;
  for (int64_t c = 0; c < width; ++c) {
    float v = activate(a.activation, y[c]) * (is_pair(a.activation) ? y[width + c] : 1.f);
    if (call.has(kGate)) v *= call.f32(kGate)[c];
    out[c] = base != nullptr ? base[c] + v : v;
  }
}

void store_rotated(const RefCall& call, const LinearAttrs& a, int64_t r, const float* y) {
  const int64_t d = a.rope.head_dim, q_cols = a.rope.heads * d, kv_cols = a.rope.kv_heads * d;
  const int64_t position = (call.has(kPosition) ? *call.i32(kPosition) : 0) + r;
  const float* table = call.f32(kTable) + position * d;
  std::array<float, 1024> rotated;
  for (int64_t h = 0; h < a.rope.heads; ++h)
    rotate_head(y + h * d, table, d, call.out(0) + r * q_cols + h * d);
  for (int64_t c = 0; c < kv_cols; ++c) {
    if (c % d == 0) rotate_head(y + q_cols + c, table, d, rotated.data());
    store_float(call.raw_out(1), call.out_dtype(1), size_t(position * kv_cols + c), rotated[size_t(c % d)]);
    store_float(call.raw_out(2), call.out_dtype(2), size_t(position * kv_cols + c), y[q_cols + kv_cols + c]);
  }
}

// The sums of row r of the result, as a device makes them from what it has rounded.
void store_sums(const RefCall& call, int64_t r) {
  const int64_t n = call.out_shape(0).cols, m = call.out_shape(0).rows;
  for (int64_t first = 0; first < n; first += kStatisticsColumns) {
    double sum = 0, squares = 0;
    for (int64_t c = first; c < std::min(n, first + kStatisticsColumns); ++c) {
      float v = call.out(0)[r * n + c];
      if (call.out_dtype(0) == DType::bf16) v = bf16_to_f32(f32_to_bf16(v));
      if (call.out_dtype(0) == DType::f16) v = f16_to_f32(f32_to_f16(v));
      sum += v, squares += double(v) * v;
    }
    float* pair = call.out(1) + (first / kStatisticsColumns * m + r) * 2;
    pair[0] = float(sum), pair[1] = float(squares);
  }
}

void reference(RefCall& call) {
  const auto a = call.attrs<LinearAttrs>();
  const Shape x = call.in_shape(kX);
  const int64_t n = call.in_shape(kW).rows;
  const float* input = call.f32(kX);
  if (a.norm.kind != NormKind::none) {
    float* normed = scratch(0, x.size()).data();
    for (int64_t r = 0; r < x.rows; ++r) {
      normalize_row(a.norm, input + r * x.cols, call.f32(kNormScale), call.f32(kNormShift), x.cols,
                    normed + r * x.cols);
    }
    input = normed;
  }
  const DType rounded = call.program.info(call.program.root(call.line.in[kW])).dtype;
  float* y = scratch(1, x.rows * n).data();
  if (const Weight* w = call.weight(kW)) {
    matmul_transposed(input, x.rows, x.cols, *w, rounded, y);
  } else {
    const Weight held{.shape = call.in_shape(kW),
                      .parts = {{static_cast<const std::byte*>(static_cast<const void*>(call.f32(kW))),
                                 DType::f32, n, call.in_shape(kW).cols}}};
    matmul_transposed(input, x.rows, x.cols, held, DType::f32, y);
  }
  parallel_for(x.rows, 2, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const bool rotates = a.rope.head_dim > 0;
      finish_row(call, a, r, y + r * n, n, rotates ? y + r * n : call.out(0) + r * call.out_shape(0).cols);
      if (rotates) store_rotated(call, a, r, y + r * n);
      if (!rotates && call.line.out.size() > 1) store_sums(call, r);
    }
  });
}

std::string describe(const Line& line) {
  const auto a = line.attrs<LinearAttrs>();
  std::vector<std::string> parts;
  static constexpr const char* norms[] = {"", "layer_norm", "rms_norm", "ada_rms_norm"};
  static constexpr const char* activations[] = {"", "gelu", "silu", "geglu", "swiglu"};
  if (a.norm.kind != NormKind::none)
    parts.push_back(
        fmt::format("{}{}", norms[int(a.norm.kind)], line.has(kStatistics) ? " by its sums" : ""));
  if (line.has(kBias)) parts.emplace_back("bias");
  if (a.activation != Activation::none) parts.emplace_back(activations[int(a.activation)]);
  if (line.has(kResidual)) parts.emplace_back(line.has(kGate) ? "gated residual" : "residual");
  if (a.rope.head_dim > 0) parts.emplace_back("rope append");
  if (a.rope.head_dim == 0 && line.out.size() > 1) parts.emplace_back("sums");
  return fmt::format("{}", fmt::join(parts, " + "));
}

double flops(const Program& program, const Line& line) {
  return 2.0 * double(program.info(line.in[kX]).shape.rows) * double(program.info(line.in[kW]).shape.size());
}

}  // namespace

const OpDef kLinearOp{.name = "linear",
                      .reference = reference,
                      .flops = flops,
                      .describe = describe,
                      .in_place = kResidual,
                      .streamed = 1u << kW};

Tensor linear(Tensor x, Tensor w, Tensor b, At at) {
  require(x.cols() >= w.cols(), at, "linear: x [{}, {}] against w [{}, {}]", x.rows(), x.cols(), w.rows(),
          w.cols());
  require(!b || b.shape() == Shape{1, w.rows()}, at, "linear: bias must be [1, {}]", w.rows());
  Program& program = *x.program;
  const Tensor y = program.temp({x.rows(), w.rows()}, program.compute());
  std::vector<Tensor> in(kLinearOperands);
  in[kX] = x, in[kW] = w, in[kBias] = b;
  program.record(kLinearOp, in, {y}, LinearAttrs{}, at);
  return y;
}

}  // namespace flashrt
