// GPT-2 (Radford et al. 2019) as transformers computes it.
#include "models/gpt2.h"

#include "base/error.h"
#include "ops/append.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/position_embedding.h"
#include "ops/residual.h"
#include "ops/split.h"

namespace flashrt {

namespace {

struct Norm {
  Tensor weight, bias;
};

struct Layer {
  Norm norm1, norm2;
  Tensor qkv, qkv_bias, out, out_bias, up, up_bias, down, down_bias;
};

struct Cache {
  Tensor k, v;  // [capacity, width]
};

class Gpt2 {
 public:
  Gpt2(Program& program, const LmConfig& config, const WeightSource& source, const LmShape& shape)
      : p_(program), c_(config), w_(program, source), body_(program, source, config.prefix), shape_(shape) {}

  void record();

 private:
  Norm norm(const WeightBinder& w, const std::string& name) const {
    return {w.vector(name + ".weight", c_.width), w.vector(name + ".bias", c_.width)};
  }
  Tensor normalize(Tensor x, const Norm& n) const {
    return layer_norm(x, n.weight, n.bias, float(c_.norm_epsilon));
  }
  Layer layer(const WeightBinder& w) const;
  Tensor attend(Tensor x, const Layer& l, Cache& cache) const;
  Tensor block(Tensor x, const Layer& l, Cache& cache) const;

  Program& p_;
  const LmConfig& c_;
  WeightBinder w_, body_;
  LmShape shape_;
  Tensor position_;
};

Layer Gpt2::layer(const WeightBinder& w) const {
  const int64_t n = c_.width;
  return {.norm1 = norm(w, "ln_1"),
          .norm2 = norm(w, "ln_2"),
          .qkv = w.matrix("attn.c_attn.weight", {3 * n, n}),
          .qkv_bias = w.vector("attn.c_attn.bias", 3 * n),
          .out = w.matrix("attn.c_proj.weight", {n, n}),
          .out_bias = w.vector("attn.c_proj.bias", n),
          .up = w.matrix("mlp.c_fc.weight", {c_.mlp, n}),
          .up_bias = w.vector("mlp.c_fc.bias", c_.mlp),
          .down = w.matrix("mlp.c_proj.weight", {n, c_.mlp}),
          .down_bias = w.vector("mlp.c_proj.bias", n)};
}

Tensor Gpt2::attend(Tensor x, const Layer& l, Cache& cache) const {
  const int64_t widths[] = {c_.width, c_.width, c_.width};
  const auto qkv = split(linear(x, l.qkv, l.qkv_bias), widths);
  cache.k = append(cache.k, qkv[1], position_);
  cache.v = append(cache.v, qkv[2], position_);
  return attention(qkv[0], cache.k, cache.v, position_,
                   {.heads = int32_t(c_.heads),
                    .kv_heads = int32_t(c_.heads),
                    .head_dim = int32_t(c_.head_dim),
                    .keys = int32_t(x.rows()),
                    .causal = 1});
}

Tensor Gpt2::block(Tensor x, const Layer& l, Cache& cache) const {
  x = residual(x, linear(attend(normalize(x, l.norm1), l, cache), l.out, l.out_bias));
  const Tensor hidden = gelu(linear(normalize(x, l.norm2), l.up, l.up_bias));
  return residual(x, linear(hidden, l.down, l.down_bias));
}

void Gpt2::record() {
  const Tensor ids = p_.input("token_ids", {1, shape_.rows}, DType::i32);
  position_ = p_.input("position", {1, 1}, DType::i32);
  const Tensor table = body_.matrix("wte.weight", {c_.vocab, c_.width});
  Tensor x = position_embedding(embedding(ids, table), body_.matrix("wpe.weight", {c_.positions, c_.width}),
                                position_);
  for (int64_t i = 0; i < c_.layers; ++i) {
    const Shape room{shape_.capacity, c_.width};
    Cache cache{p_.buffer(fmt::format("k{}", i), room, p_.compute(), Kind::state),
                p_.buffer(fmt::format("v{}", i), room, p_.compute(), Kind::state)};
    x = block(x, layer(body_.at(fmt::format("h.{}.", i))), cache);
  }
  if (!shape_.logits) return;
  const Tensor head = c_.tied ? table : w_.matrix("lm_head.weight", {c_.vocab, c_.width});
  x = normalize(x, norm(body_, "ln_f"));
  const auto exact = p_.exact();
  p_.output("logits", linear(x, head));
}

}  // namespace

void record_gpt2(Program& program, const LmConfig& config, const WeightSource& source, const LmShape& shape) {
  Gpt2(program, config, source, shape).record();
}

}  // namespace flashrt
