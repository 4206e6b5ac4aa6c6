// Llama (Touvron et al. 2023), Mistral (Jiang et al. 2023), Qwen2 and Qwen3 (Qwen team 2024, 2025) and Gemma
// (Gemma team 2024), as transformers computes them.
#include "models/llama.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/append.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/experts.h"
#include "ops/linear.h"
#include "ops/residual.h"
#include "ops/split.h"

namespace flashrt {

namespace {

struct Layer {
  Tensor norm1, norm2, q_norm, k_norm;
  Tensor qkv, qkv_bias, out, out_bias, gate_up, gate_up_bias, down, down_bias;
  Tensor router;  // present: gate_up and down are those of all experts
};

struct Cache {
  Tensor k, v;  // [capacity, kv_heads·head_dim]
};

class Llama {
 public:
  Llama(Program& program, const LmConfig& config, const WeightSource& source, const LmShape& shape)
      : p_(program), c_(config), source_(source), w_(program, source), shape_(shape) {}

  void record();

 private:
  Layer layer(int64_t index) const;
  Tensor norm_weight(const std::string& name, int64_t n) const;
  Tensor normalize(Tensor x, Tensor weight) const { return rms_norm(x, weight, float(c_.norm_epsilon)); }
  Tensor normalize_heads(Tensor x, Tensor weight) const;
  Tensor attend(Tensor x, const Layer& l, Cache& cache, int64_t window);
  Tensor mlp(Tensor x, const Layer& l) const;
  Tensor block(Tensor x, const Layer& l, Cache& cache, int64_t window);
  void bind_experts(const WeightBinder& w, Layer& l) const;

  Program& p_;
  const LmConfig& c_;
  const WeightSource& source_;
  WeightBinder w_;
  LmShape shape_;
  Tensor rope_, position_;
};

// The op multiplies by 1 + w; most families store 1 + w itself.
Tensor Llama::norm_weight(const std::string& name, int64_t n) const {
  if (c_.norm_adds_one) return w_.vector(name, n);
  std::vector<float> values = weight_values(source_(name));
  if (int64_t(values.size()) != n) fail("{}: expected {} values, found {}", name, n, values.size());
  for (float& value : values) value -= 1;
  return p_.constant(name + " - 1", {1, n}, std::move(values));
}

Layer Llama::layer(int64_t index) const {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const WeightBinder w = w_.at(prefix);
  const int64_t n = c_.width, q = c_.heads * c_.head_dim, qkv = q + 2 * c_.kv_heads * c_.head_dim;
  const auto bias = [&](bool there, const char* name, int64_t size) {
    return there ? w.vector(name, size) : Tensor{};
  };
  const auto head_norm = [&](const char* name) {
    return c_.qk_norm ? norm_weight(prefix + name, c_.head_dim) : Tensor{};
  };
  Layer l{.norm1 = norm_weight(prefix + "input_layernorm.weight", n),
          .norm2 = norm_weight(prefix + "post_attention_layernorm.weight", n),
          .q_norm = head_norm("self_attn.q_norm.weight"),
          .k_norm = head_norm("self_attn.k_norm.weight"),
          .qkv = w.matrix("self_attn.{q,k,v}_proj.weight", {qkv, n}),
          .qkv_bias = bias(c_.qkv_bias, "self_attn.{q,k,v}_proj.bias", qkv),
          .out = w.matrix("self_attn.o_proj.weight", {n, q}),
          .out_bias = bias(c_.out_bias, "self_attn.o_proj.bias", n)};
  if (c_.experts > 0) {
    bind_experts(w, l);
    return l;
  }
  l.gate_up = w.matrix("mlp.{gate,up}_proj.weight", {2 * c_.mlp, n});
  l.gate_up_bias = bias(c_.mlp_bias, "mlp.{gate,up}_proj.bias", 2 * c_.mlp);
  l.down = w.matrix("mlp.down_proj.weight", {n, c_.mlp});
  l.down_bias = bias(c_.mlp_bias, "mlp.down_proj.bias", n);
  return l;
}

// All experts' matrices stacked, expert after expert, gate over up.
void Llama::bind_experts(const WeightBinder& w, Layer& l) const {
  const LmExpertNames names = lm_expert_names(c_);
  std::vector<std::string> gate_up, down;
  for (int64_t e = 0; e < c_.experts; ++e) {
    gate_up.push_back(fmt::format("{}.{},{}.{}", e, names.gate, e, names.up));
    down.push_back(fmt::format("{}.{}", e, names.down));
  }
  const auto stack = [&](const std::vector<std::string>& all, Shape shape) {
    return w.matrix(fmt::format("{}.{{{}}}.weight", names.stem, fmt::join(all, ",")), shape);
  };
  l.router = w.matrix(names.router + ".weight", {c_.experts, c_.width});
  l.gate_up = stack(gate_up, {c_.experts * 2 * c_.mlp, c_.width});
  l.down = stack(down, {c_.experts * c_.width, c_.mlp});
}

// One norm per head: the heads of [rows, heads·head_dim] are rows of the same memory.
Tensor Llama::normalize_heads(Tensor x, Tensor weight) const {
  if (!weight) return x;
  const Shape whole = x.shape(), heads{whole.size() / c_.head_dim, c_.head_dim};
  return p_.reshape(normalize(p_.reshape(x, heads), weight), whole);
}

Tensor Llama::attend(Tensor x, const Layer& l, Cache& cache, int64_t window) {
  const int64_t d = c_.head_dim, widths[] = {c_.heads * d, c_.kv_heads * d, c_.kv_heads * d};
  const auto qkv = split(linear(x, l.qkv, l.qkv_bias), widths);
  const Tensor q = rope(normalize_heads(qkv[0], l.q_norm), rope_, position_, d);
  cache.k = append(cache.k, rope(normalize_heads(qkv[1], l.k_norm), rope_, position_, d), position_);
  cache.v = append(cache.v, qkv[2], position_);
  return attention(q, cache.k, cache.v, position_,
                   {.heads = int32_t(c_.heads),
                    .kv_heads = int32_t(c_.kv_heads),
                    .head_dim = int32_t(d),
                    .keys = int32_t(x.rows()),
                    .causal = 1,
                    // A window that the cache cannot outgrow hides nothing.
                    .window = window < shape_.capacity ? int32_t(window) : 0});
}

Tensor Llama::mlp(Tensor x, const Layer& l) const {
  if (l.router) {
    Tensor scores;
    {
      const auto exact = p_.exact();
      scores = linear(x, l.router);
    }
    return experts(x, scores, l.gate_up, l.down,
                   {.used = int32_t(c_.experts_used),
                    .normalise = c_.normalise_experts,
                    .activation = c_.gelu_gate ? Activation::geglu : Activation::swiglu});
  }
  const Tensor gate_up = linear(x, l.gate_up, l.gate_up_bias);
  return linear(c_.gelu_gate ? geglu(gate_up) : swiglu(gate_up), l.down, l.down_bias);
}

Tensor Llama::block(Tensor x, const Layer& l, Cache& cache, int64_t window) {
  x = residual(x, linear(attend(normalize(x, l.norm1), l, cache, window), l.out, l.out_bias));
  return residual(x, mlp(normalize(x, l.norm2), l));
}

void Llama::record() {
  const Tensor ids = p_.input("token_ids", {1, shape_.rows}, DType::i32);
  position_ = p_.input("position", {1, 1}, DType::i32);
  rope_ = p_.constant("rope table", {shape_.capacity, c_.head_dim},
                      lm_rope_table(c_.rope, shape_.capacity, c_.head_dim));
  const Tensor table = w_.matrix("model.embed_tokens.weight", {c_.vocab, c_.width});
  Tensor x = embedding(ids, table, float(c_.embedding_scale));
  for (int64_t i = 0; i < c_.layers; ++i) {
    const Shape room{shape_.capacity, c_.kv_heads * c_.head_dim};
    Cache cache{p_.buffer(fmt::format("k{}", i), room, p_.compute(), Kind::state),
                p_.buffer(fmt::format("v{}", i), room, p_.compute(), Kind::state)};
    x = block(x, layer(i), cache, c_.window[size_t(i)]);
  }
  if (!shape_.logits) return;
  const Tensor head = c_.tied ? table : w_.matrix("lm_head.weight", {c_.vocab, c_.width});
  x = normalize(x, norm_weight("model.norm.weight", c_.width));
  const auto exact = p_.exact();
  p_.output("logits", linear(x, head));
}

// ---- rotary frequencies ----

// Llama 3.1: wavelengths beyond the trained context are stretched, short ones kept, a ramp between.
double llama3_frequency(const RopeRule& rule, double frequency) {
  const double turns =
      double(rule.trained) * frequency / (2 * std::numbers::pi);  // within the trained context
  const double kept =
      std::clamp((turns - rule.low_frequency) / (rule.high_frequency - rule.low_frequency), 0.0, 1.0);
  return (1 - kept) * frequency / rule.factor + kept * frequency;
}

// YaRN (Peng et al. 2023): the same idea, with a ramp over the dimension's index.
double yarn_frequency(const RopeRule& rule, double frequency, int64_t i, int64_t head_dim) {
  const auto index_of = [&](double turns) {
    return double(head_dim) * std::log(double(rule.trained) / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rule.theta));
  };
  double low = index_of(rule.beta_fast), high = index_of(rule.beta_slow);
  if (rule.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, double(head_dim - 1));
  const double stretched = std::clamp((double(i) - low) / std::max(high - low, 1e-3), 0.0, 1.0);
  return stretched * frequency / rule.factor + (1 - stretched) * frequency;
}

}  // namespace

std::vector<float> lm_rope_table(const RopeRule& rule, int64_t positions, int64_t head_dim) {
  std::vector<float> table(size_t(positions * head_dim));
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    double frequency = std::pow(rule.theta, -2.0 * double(i) / double(head_dim));
    if (rule.scaling == RopeScaling::linear) frequency /= rule.factor;
    if (rule.scaling == RopeScaling::llama3) frequency = llama3_frequency(rule, frequency);
    if (rule.scaling == RopeScaling::yarn) frequency = yarn_frequency(rule, frequency, i, head_dim);
    const double size = rule.attention_factor;
    for (int64_t p = 0; p < positions; ++p) {
      table[size_t(p * head_dim + 2 * i)] = float(size * std::cos(double(p) * frequency));
      table[size_t(p * head_dim + 2 * i + 1)] = float(size * std::sin(double(p) * frequency));
    }
  }
  return table;
}

void record_llama(Program& program, const LmConfig& config, const WeightSource& source,
                  const LmShape& shape) {
  Llama(program, config, source, shape).record();
}

}  // namespace flashrt
