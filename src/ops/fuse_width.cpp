// The pattern that gives a wide result between two linears rows of whole 128-byte lines: a copy engine
// fetches rows that straddle lines at about half its rate.
#include "ops/fusion.h"
#include "ops/linear.h"

namespace flashrt {

namespace {

constexpr int64_t kWide = 1024,
                  kLine = 64;  // values; narrower rows or fewer of them are not worth columns of zeros
constexpr int64_t kManyRows = 64;

// w with rows of zeros up to `rows`; all of them are one row in memory.
Weight padded_rows(const Weight& w, int64_t rows) {
  static constexpr int64_t kBytes = 1 << 18;
  static const std::vector<std::byte> zeros(size_t{kBytes});
  Weight result = w;
  const DType dtype = w.parts[0].dtype;
  if (w.shape.cols * int64_t(size_of(dtype)) > kBytes) return result;
  result.parts.push_back({.data = zeros.data(), .dtype = dtype, .rows = rows - w.shape.rows, .stride = 0});
  result.shape.rows = rows;
  return result;
}

}  // namespace

bool align_width(FuseContext& context, size_t index) {
  Program& program = context.program;
  Line producer = program.lines[index];
  if (producer.op != &kLinearOp || producer.out.size() != 1) return false;
  const TensorInfo y = program.info(producer.out[0]);  // by value: tensors are added below
  const auto attrs = producer.attrs<LinearAttrs>();
  // activation(0) is 0; pairs and heads have their own order of columns.
  if (y.kind != Kind::temp || y.base != producer.out[0] || y.shape.cols <= kWide ||
      y.shape.cols % kLine == 0 || y.shape.rows <= kManyRows || y.dtype == DType::f32 ||
      is_pair(attrs.activation) || attrs.rope.head_dim > 0 || producer.has(kResidual))
    return false;
  const std::shared_ptr<const Weight> w = program.info(producer.in[kW]).weight;
  const auto bias = known_vector(program, producer.in[kBias]);
  if (w == nullptr || w->format() || (producer.has(kBias) && bias == nullptr)) return false;
  const int next = context.only_reader(producer.out[0], index + 1);
  if (next < 0) return false;
  Line consumer = program.lines[size_t(next)];
  if (consumer.op != &kLinearOp || consumer.in[kX] != producer.out[0] ||
      consumer.attrs<LinearAttrs>().norm.kind != NormKind::none)
    return false;

  const int64_t width = (y.shape.cols + kLine - 1) / kLine * kLine;
  Weight padded = padded_rows(*w, width);
  if (padded.shape.rows != width) return false;
  producer.in[kW] = program.weight(std::move(padded)).id;
  if (bias != nullptr) {
    std::vector<float> values = *bias;
    values.resize(size_t(width));
    producer.in[kBias] = program.constant(w->name + " bias, padded", {1, width}, std::move(values)).id;
  }
  producer.out[0] = consumer.in[kX] = program.temp({y.shape.rows, width}, y.dtype).id;
  const bool both = context.supported(program, producer) && context.supported(program, consumer);
  if (both) {
    program.lines[index] = std::move(producer);
    program.lines[size_t(next)] = std::move(consumer);
  }
  context.refresh();  // tensors more
  return both;
}

}  // namespace flashrt
