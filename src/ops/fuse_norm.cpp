// The pattern that takes a norm out of the chain of lines: its producer sums, its consumer scales.
#include <algorithm>

#include "ops/fusion.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "tape/reference.h"

namespace flashrt {

namespace {

// w as it acts on the row divided by its σ: the norm's scale in its columns, rows centred for a LayerNorm.
Weight scaled(const Weight& w, const std::vector<float>& scale, NormKind kind) {
  Weight::ColumnFactor factor{.values = scale, .centred = kind == NormKind::layer};
  if (kind == NormKind::rms) {
    for (float& v : factor.values) v += 1;
  }
  const auto shared = std::make_shared<const Weight::ColumnFactor>(std::move(factor));
  Weight result = w;
  for (Weight::Part& part : result.parts) part.factor = shared;
  return result;
}

// bias + w · shift in f32.
std::vector<float> shifted(const Weight& w, const std::vector<float>& shift, const std::vector<float>* bias) {
  std::vector<float> values(size_t(w.shape.rows));
  matmul_transposed(shift.data(), 1, w.shape.cols, w, DType::f32, values.data());
  for (size_t i = 0; bias != nullptr && i < values.size(); ++i) values[i] += (*bias)[i];
  return values;
}

}  // namespace

std::shared_ptr<const std::vector<float>> known_vector(const Program& program, int id) {
  if (id < 0) return nullptr;
  const TensorInfo& t = program.info(id);
  if (t.kind == Kind::constant) return t.values;
  return t.kind == Kind::weight ? std::make_shared<const std::vector<float>>(weight_values(*t.weight))
                                : nullptr;
}

bool carry_norm(FuseContext& context, size_t index) {
  Program& program = context.program;
  const Line norm = program.lines[index];
  if (norm.op != &kNormOp) return false;
  const auto kind = norm.attrs<NormAttrs>().kind;
  if (kind == NormKind::ada_rms) return false;
  const auto scale = known_vector(program, norm.in[1]), shift = known_vector(program, norm.in[2]);
  if (scale == nullptr || (norm.has(2) && shift == nullptr)) return false;
  // A program with a state shares its weights with others, which want them as they are stored.
  if (std::ranges::any_of(program.tensors, [](const TensorInfo& t) { return t.kind == Kind::state; }))
    return false;

  const int next = context.only_reader(norm.out[0], index + 1), before = context.writer(norm.in[0], index);
  if (next < 0 || before < 0) return false;
  Line consumer = program.lines[size_t(next)], producer = program.lines[size_t(before)];
  if (consumer.op != &kLinearOp || producer.op != &kLinearOp || consumer.in[kX] != norm.out[0]) return false;
  if (producer.out.size() != 1 || producer.out[0] != norm.in[0]) return false;
  auto attrs = consumer.attrs<LinearAttrs>();
  const std::shared_ptr<const Weight> w = program.info(consumer.in[kW]).weight;
  const auto bias = known_vector(program, consumer.in[kBias]);
  if (attrs.norm.kind != NormKind::none || w == nullptr || w->format() || w->parts[0].factor != nullptr)
    return false;
  if ((consumer.has(kBias) && bias == nullptr) || w->shape.cols != program.info(norm.in[0]).shape.cols)
    return false;

  const Shape x = program.info(norm.in[0]).shape;
  const int sums =
      program.temp({(x.cols + kStatisticsColumns - 1) / kStatisticsColumns, 2 * x.rows}, DType::f32).id;
  producer.out.push_back(sums);
  attrs.norm = norm.attrs<NormAttrs>();
  consumer.set_attrs(attrs);
  consumer.in.resize(kLinearOperands, -1);
  consumer.in[kX] = norm.in[0], consumer.in[kStatistics] = sums;
  context.refresh();  // a tensor more
  if (!context.supported(program, producer) || !context.supported(program, consumer)) return false;
  consumer.in[kW] = program.weight(scaled(*w, *scale, kind)).id;
  if (shift != nullptr) {
    consumer.in[kBias] =
        program.constant(w->name + " bias", {1, w->shape.rows}, shifted(*w, *shift, bias.get())).id;
  }
  program.lines[size_t(before)] = std::move(producer);
  program.lines[size_t(next)] = std::move(consumer);
  program.lines[index].op = nullptr;
  context.refresh();
  return true;
}

}  // namespace flashrt
