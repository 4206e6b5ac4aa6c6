// Definition of the fused decode attention: head by head, online softmax in blocks of keys.
#include "ops/attention_step.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "ops/matmul.h"
#include "ops/norm.h"

namespace flashrt {

namespace {

constexpr int64_t kWidest = 1024;  // head_dim

// norm, when there is a weight, then rotation; x and y [head_dim].
void prepare_head(const RefCall& call, const AttentionStepAttrs& a, const float* x, int norm,
                  const float* table, float* y) {
  float normed[kWidest];
  if (call.has(size_t(norm))) {
    normalize_row({NormKind::rms, a.eps}, x, call.f32(size_t(norm)), nullptr, a.head_dim, normed);
    x = normed;
  }
  rotate_head(x, table, a.head_dim, y);
}

// Softmax over keys [first, last) of one head, q already scaled.
void attend(const float* q, const float* k, const float* v, int64_t stride, int64_t first, int64_t last,
            int64_t d, float* out) {
  float logit[64], top = -INFINITY, sum = 0;
  std::fill(out, out + d, 0.f);
  for (int64_t begin = first; begin < last; begin += 64) {
    const int64_t n = std::min<int64_t>(64, last - begin);
    float best = top;
    for (int64_t j = 0; j < n; ++j) best = std::max(best, logit[j] = dot(q, k + (begin + j) * stride, d));
    const float kept = std::exp(top - best);
    for (int64_t c = 0; c < d; ++c) out[c] *= kept;
    sum *= kept, top = best;
    for (int64_t j = 0; j < n; ++j) {
      const float weight = std::exp(logit[j] - top);
      sum += weight;
      add_scaled(out, v + (begin + j) * stride, weight, d);
    }
  }
  for (int64_t c = 0; c < d; ++c) out[c] /= sum;
}

void reference(RefCall& call) {
  const auto a = call.attrs<AttentionStepAttrs>();
  const int64_t d = a.head_dim, kv_cols = a.kv_heads * d, position = *call.i32(kStepPosition);
  const float *qkv = call.f32(kStepQkv), *table = call.f32(kStepTable) + position * d;
  float rotated[kWidest];
  for (int64_t c = 0; c < kv_cols; ++c) {
    if (c % d == 0) prepare_head(call, a, qkv + a.heads * d + c, kStepKNorm, table, rotated);
    const size_t at = size_t(position * kv_cols + c);
    store_float(call.raw_out(1), call.out_dtype(1), at, rotated[c % d]);
    store_float(call.raw_out(2), call.out_dtype(2), at, qkv[a.heads * d + kv_cols + c]);
  }
  // The operands' f32 copies were made before the line ran: the new row comes from its stored form.
  const float *keys = call.f32(kStepKCache), *values = call.f32(kStepVCache);
  const int64_t first = a.window > 0 ? std::max<int64_t>(0, position + 1 - a.window) : 0;
  const float scale = a.scale != 0 ? a.scale : 1.f / std::sqrt(float(d));
  for (int64_t c = 0; c < kv_cols; ++c) {
    const size_t at = size_t(position * kv_cols + c);
    const_cast<float*>(keys)[at] = load_float(call.raw_out(1), call.out_dtype(1), at);
    const_cast<float*>(values)[at] = load_float(call.raw_out(2), call.out_dtype(2), at);
  }
  parallel_for(a.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      float q[kWidest];
      prepare_head(call, a, qkv + h * d, kStepQNorm, table, q);
      for (int64_t c = 0; c < d; ++c) q[c] *= scale;
      const int64_t column = h * a.kv_heads / a.heads * d;
      attend(q, keys + column, values + column, kv_cols, first, position + 1, d, call.out(0) + h * d);
    }
  });
}

std::string describe(const Line& line) {
  const auto a = line.attrs<AttentionStepAttrs>();
  std::string text = fmt::format("heads={} kv_heads={} head_dim={}", a.heads, a.kv_heads, a.head_dim);
  if (line.has(kStepQNorm)) text += " normed heads";
  if (a.window > 0) text += fmt::format(" window={}", a.window);
  return text;
}

double flops(const Program& program, const Line& line) {
  const auto a = line.attrs<AttentionStepAttrs>();
  return 4.0 * a.heads * a.head_dim * double(program.info(line.in[kStepKCache]).shape.rows);
}

}  // namespace

const OpDef kAttentionStepOp{
    .name = "attention_step", .reference = reference, .flops = flops, .describe = describe};

}  // namespace flashrt
