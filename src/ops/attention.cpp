// Definition of attention: per head and row, logits, softmax, weighted sum.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "ops/matmul.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const auto a = call.attrs<AttentionAttrs>();
  const int64_t d = a.head_dim, rows = call.out_shape(0).rows / a.segments;
  const int64_t q_stride = call.in_shape(0).cols, k_stride = call.in_shape(1).cols,
                v_stride = call.in_shape(2).cols;
  const int64_t capacity = call.in_shape(1).rows / a.segments;
  const int64_t keys = std::min<int64_t>(capacity, a.keys + (call.has(3) ? *call.i32(3) : 0));
  const float scale = a.scale != 0 ? a.scale : 1.f / std::sqrt(float(d));
  parallel_for(a.segments * rows * a.heads, 4, [&](int64_t begin, int64_t end) {
    // On the stack as far as it goes: which thread gets a range must not decide who allocates.
    constexpr int64_t kStackKeys = 1 << 14;
    float on_stack[kStackKeys];
    float* p = keys > kStackKeys ? thread_scratch(keys) : on_stack;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t r = item / a.heads % rows, segment = item / a.heads / rows, h = item % a.heads;
      const int64_t kv_head = h * a.kv_heads / a.heads, row = segment * rows + r;
      const float* q = call.f32(0) + row * q_stride + a.q_col + h * d;
      const float* k = call.f32(1) + segment * capacity * k_stride + a.k_col + kv_head * d;
      const float* v = call.f32(2) + segment * capacity * v_stride + a.v_col + kv_head * d;
      float* out = call.out(0) + row * a.heads * d + h * d;
      std::fill(out, out + d, 0.f);
      const int64_t n = visible_keys(a, r, rows, keys), first = first_visible_key(a, n);
      float top = -INFINITY, sum = 0;
      for (int64_t j = first; j < n; ++j) top = std::max(top, p[j] = scale * dot(q, k + j * k_stride, d));
      for (int64_t j = first; j < n; ++j) sum += p[j] = std::exp(p[j] - top);
      for (int64_t j = first; j < n; ++j) add_scaled(out, v + j * v_stride, p[j] / sum, d);
    }
  });
}

std::string describe(const Line& line) {
  const auto a = line.attrs<AttentionAttrs>();
  std::string text =
      fmt::format("heads={} kv_heads={} head_dim={} keys={}", a.heads, a.kv_heads, a.head_dim, a.keys);
  if (a.segments > 1) text += fmt::format(" segments={}", a.segments);
  if (a.lead_rows > 0) text += fmt::format(" lead_rows={}", a.lead_rows);
  if (a.causal) text += " causal";
  if (a.window > 0) text += fmt::format(" window={}", a.window);
  if (a.k_col > 0) text += fmt::format(" columns={},{},{}", a.q_col, a.k_col, a.v_col);
  return text;
}

double flops(const Program& program, const Line& line) {
  const auto a = line.attrs<AttentionAttrs>();
  const double keys = double(program.info(line.in[1]).shape.rows) / a.segments;
  return 4.0 * double(program.info(line.out[0]).shape.size()) * keys;
}

}  // namespace

const OpDef kAttentionOp{.name = "attention", .reference = reference, .flops = flops, .describe = describe};

Tensor attention(Tensor q, Tensor k, Tensor v, Tensor length, AttentionAttrs attrs, At at) {
  const int64_t d = attrs.head_dim;
  require(d > 0 && attrs.heads % attrs.kv_heads == 0, at, "attention: {} heads over {} key heads of {}",
          attrs.heads, attrs.kv_heads, d);
  require(q.cols() == attrs.heads * d && k.cols() == attrs.kv_heads * d && v.shape() == k.shape(), at,
          "attention: q [{}, {}], k [{}, {}], v [{}, {}] for {}/{} heads of {}", q.rows(), q.cols(), k.rows(),
          k.cols(), v.rows(), v.cols(), attrs.heads, attrs.kv_heads, d);
  require(q.rows() % attrs.segments == 0 && k.rows() % attrs.segments == 0, at,
          "attention: rows in {} segments", attrs.segments);
  Program& program = *q.program;
  const Tensor out = program.temp(q.shape(), program.compute());
  program.record(kAttentionOp, {q, k, v, length}, {out}, attrs, at);
  return out;
}

}  // namespace flashrt
