// Definition of the mixture of experts: row by row, expert by expert.
#include "ops/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/matmul.h"

namespace flashrt {

namespace {

// Rows [begin, begin + count) of a stored matrix.
void take_rows(const Weight& whole, int64_t begin, int64_t count, Weight& slice) {
  slice.shape = {count, whole.shape.cols};
  slice.parts.clear();
  for (const Weight::Part& part : whole.parts) {
    const int64_t from = std::clamp<int64_t>(begin, 0, part.rows);
    const int64_t to = std::clamp<int64_t>(begin + count, 0, part.rows);
    begin -= part.rows;
    if (from < to) slice.parts.push_back(part.slice(from, to));
  }
}

// The chosen experts first in `order`, their weights in `p`.
void choose(const ExpertsAttrs& a, const float* router, int64_t count, std::vector<int>& order,
            std::vector<float>& p) {
  order.resize(size_t(count));
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int i, int j) { return router[i] != router[j] ? router[i] > router[j] : i < j; };
  std::partial_sort(order.begin(), order.begin() + a.used, order.end(), likelier);
  p.resize(size_t(count));
  float sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    p[i] = std::exp(router[order[i]] - router[order[0]]);
    if (!a.normalise || i < size_t(a.used)) sum += p[i];
  }
  for (float& value : p) value /= sum;
}

void reference(RefCall& call) {
  const auto a = call.attrs<ExpertsAttrs>();
  const Shape x = call.in_shape(0);
  const int64_t count = call.in_shape(1).cols, n = x.cols, m = call.in_shape(3).cols;
  const DType rounded = call.program.info(call.line.in[2]).dtype;
  thread_local std::vector<int> order;  // all grow to the largest line once
  thread_local std::vector<float> p, hidden, out;
  thread_local Weight slice;
  hidden.resize(std::max(hidden.size(), size_t(2 * m)));
  out.resize(std::max(out.size(), size_t(n)));
  for (int64_t r = 0; r < x.rows; ++r) {
    choose(a, call.f32(1) + r * count, count, order, p);
    float* y = call.out(0) + r * n;
    std::fill(y, y + n, 0.f);
    for (int i = 0; i < a.used; ++i) {
      take_rows(*call.weight(2), order[size_t(i)] * 2 * m, 2 * m, slice);
      matmul_transposed(call.f32(0) + r * n, 1, n, slice, rounded, hidden.data());
      for (int64_t c = 0; c < m; ++c) {
        hidden[size_t(c)] = activate(a.activation, hidden[size_t(c)]) * hidden[size_t(m + c)];
      }
      take_rows(*call.weight(3), order[size_t(i)] * n, n, slice);
      matmul_transposed(hidden.data(), 1, m, slice, rounded, out.data());
      add_scaled(y, out.data(), p[size_t(i)], n);
    }
  }
}

std::string describe(const Line& line) {
  const auto a = line.attrs<ExpertsAttrs>();
  return fmt::format("used={}{}", a.used, a.normalise ? " normalised" : "");
}

double flops(const Program& program, const Line& line) {
  const double rows = double(program.info(line.in[0]).shape.rows),
               n = double(program.info(line.in[0]).shape.cols);
  return 6.0 * rows * n * double(program.info(line.in[3]).shape.cols) * line.attrs<ExpertsAttrs>().used;
}

}  // namespace

const OpDef kExpertsOp{.name = "experts",
                       .reference = reference,
                       .flops = flops,
                       .describe = describe,
                       .streamed = 1u << 2 | 1u << 3};

Tensor experts(Tensor x, Tensor router, Tensor gate_up, Tensor down, ExpertsAttrs attrs, At at) {
  const int64_t count = router.cols(), n = x.cols(), m = down.cols();
  Program& program = *x.program;
  require(router.rows() == x.rows() && router.dtype() == DType::f32, at,
          "experts: router must be f32 [{}, experts]", x.rows());
  require(attrs.used >= 1 && attrs.used <= count, at, "experts: {} of {} experts", attrs.used, count);
  require(gate_up.shape() == Shape{count * 2 * m, n} && down.shape() == Shape{count * n, m}, at,
          "experts: gate_up [{}, {}] and down [{}, {}] for {} experts of width {}", gate_up.rows(),
          gate_up.cols(), down.rows(), down.cols(), count, n);
  require(is_pair(attrs.activation), at, "experts: a gated activation");
  for (Tensor w : {gate_up, down}) {
    require(program.info(w.id).kind == Kind::weight, at, "experts: matrices of the checkpoint");
  }
  const Tensor y = program.temp(x.shape(), program.compute());
  program.record(kExpertsOp, {x, router, gate_up, down}, {y}, attrs, at);
  return y;
}

}  // namespace flashrt
