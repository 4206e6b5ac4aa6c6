// Definition of the rotation.
#include "ops/rope.h"

#include <cmath>

namespace flashrt {

Tensor rope_table(Program& program, int64_t positions, int64_t head_dim, double theta) {
  std::vector<float> table(size_t(positions * head_dim));
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      const double angle = double(p) * std::pow(theta, -2.0 * double(i) / double(head_dim));
      table[size_t(p * head_dim + 2 * i)] = float(std::cos(angle));
      table[size_t(p * head_dim + 2 * i + 1)] = float(std::sin(angle));
    }
  }
  return program.constant("rope table", {positions, head_dim}, std::move(table));
}

void rotate_head(const float* x, const float* table_row, int64_t head_dim, float* y) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float c = table_row[2 * i], s = table_row[2 * i + 1], a = x[i], b = x[i + half];
    y[i] = a * c - b * s;
    y[i + half] = b * c + a * s;
  }
}

namespace {

void reference_rope(RefCall& call) {
  const int64_t d = call.attrs<RopeAttrs>().head_dim;
  const Shape shape = call.in_shape(0);
  const int64_t position = call.has(2) ? *call.i32(2) : 0;
  for (int64_t r = 0; r < shape.rows; ++r) {
    for (int64_t h = 0; h < shape.cols; h += d) {
      rotate_head(call.f32(0) + r * shape.cols + h, call.f32(1) + (position + r) * d, d,
                  call.out(0) + r * shape.cols + h);
    }
  }
}

void reference_rope_append(RefCall& call) {
  const auto attrs = call.attrs<RopeAttrs>();
  const int64_t d = attrs.head_dim, q_cols = attrs.heads * d, kv_cols = attrs.kv_heads * d;
  const Shape shape = call.in_shape(0);
  const int64_t position = call.has(2) ? *call.i32(2) : 0;
  std::array<float, 1024> rotated;
  for (int64_t r = 0; r < shape.rows; ++r) {
    const float* x = call.f32(0) + r * shape.cols;
    const float* table = call.f32(1) + (position + r) * d;
    const int64_t cached = (position + r) * kv_cols;
    for (int64_t h = 0; h < attrs.heads; ++h)
      rotate_head(x + h * d, table, d, call.out(0) + r * q_cols + h * d);
    for (int64_t h = 0; h < attrs.kv_heads; ++h) {
      rotate_head(x + q_cols + h * d, table, d, rotated.data());
      for (int64_t i = 0; i < d; ++i) {
        store_float(call.raw_out(1), call.out_dtype(1), size_t(cached + h * d + i), rotated[size_t(i)]);
        store_float(call.raw_out(2), call.out_dtype(2), size_t(cached + h * d + i),
                    x[q_cols + kv_cols + h * d + i]);
      }
    }
  }
}

std::string describe(const Line& line) {
  const auto attrs = line.attrs<RopeAttrs>();
  return fmt::format("heads={} kv_heads={} head_dim={}", attrs.heads, attrs.kv_heads, attrs.head_dim);
}

double flops(const Program& program, const Line& line) {
  return 3.0 * double(program.info(line.in[0]).shape.size());
}

}  // namespace

const OpDef kRopeOp{
    .name = "rope", .reference = reference_rope, .flops = flops, .describe = describe, .in_place = 0};
const OpDef kRopeAppendOp{
    .name = "rope_append", .reference = reference_rope_append, .flops = flops, .describe = describe};

Tensor rope(Tensor x, Tensor table, Tensor position, int64_t head_dim, At at) {
  require(x.cols() % head_dim == 0 && head_dim % 2 == 0, at, "rope: {} columns in heads of {}", x.cols(),
          head_dim);
  require(table.cols() == head_dim && table.rows() >= x.rows(), at,
          "rope: table [{}, {}] for {} rows, head_dim {}", table.rows(), table.cols(), x.rows(), head_dim);
  Program& program = *x.program;
  const Tensor y = program.temp(x.shape(), program.compute());
  const RopeAttrs attrs{.heads = int32_t(x.cols() / head_dim), .head_dim = int32_t(head_dim)};
  program.record(kRopeOp, {x, table, position}, {y}, attrs, at);
  return y;
}

}  // namespace flashrt
