// Pi0 (Black et al. 2024) and Pi0.5 (Physical Intelligence 2025) as openpi's PyTorch code computes them.
#include "models/pi0.h"

#include "ops/append.h"
#include "ops/attention.h"
#include "ops/concat.h"
#include "ops/embedding.h"
#include "ops/euler_step.h"
#include "ops/image_patches.h"
#include "ops/linear.h"
#include "ops/residual.h"
#include "ops/split.h"
#include "ops/time_embedding.h"

namespace flashrt {

namespace {

struct VisionLayer {
  Tensor norm1, norm1_bias, qkv, qkv_bias, out, out_bias, norm2, norm2_bias, fc1, fc1_bias, fc2, fc2_bias;
};

struct DecoderLayer {
  Tensor norm1, norm2;  // [1, width]; or, when modulated, one row of scale | shift | gate per step
  Tensor qkv, out, gate_up, down;
};

struct Cache {
  Tensor k, v;  // [prefix + suffix, kv_heads·head_dim]
};

// What a norm does at one step: plain weights, or the scale, shift and gate of adaRMS.
struct Modulation {
  Tensor scale, shift, gate;
};

class Pi0 {
 public:
  Pi0(Program& program, const PolicyConfig& config, const WeightSource& source, const PolicyShape& shape)
      : p_(program),
        c_(config),
        shape_(shape),
        w_(program, source),
        modulated_(config.family == PolicyFamily::pi05) {}

  void record();

 private:
  Tensor vision(Tensor image);
  Tensor vision_block(Tensor x, const VisionLayer& l);
  VisionLayer vision_layer(const WeightBinder& w) const;

  DecoderLayer decoder_layer(const WeightBinder& w, const DecoderDims& d, bool modulated);
  Tensor block(Tensor x, const DecoderLayer& l, const DecoderDims& d, Cache& cache, int64_t step);
  Tensor attend(Tensor x, const DecoderLayer& l, const DecoderDims& d, Cache& cache, Tensor position);
  Tensor norm_weight(const WeightBinder& w, const std::string& name, int64_t width, bool modulated);
  Modulation modulation(Tensor norm, int64_t step);
  Tensor normalize(Tensor x, const Modulation& m, const DecoderDims& d);

  void record_times();
  Tensor suffix(Tensor x, Tensor state, int64_t step);
  Tensor velocity(Tensor x, Tensor state, const std::vector<DecoderLayer>& layers, Tensor final_norm,
                  int64_t step);

  Program& p_;
  const PolicyConfig& c_;
  PolicyShape shape_;
  WeightBinder w_;
  bool modulated_;
  Tensor rope_, length_,
      time_;  // time_: [steps, width] conditioning (Pi0.5) or the time part of the MLP (Pi0)
  std::vector<Cache> caches_;
  Tensor action_in_, action_in_bias_, action_out_, action_out_bias_, time_out_, time_out_bias_, action_time_;
};

// ---- SigLIP ----

VisionLayer Pi0::vision_layer(const WeightBinder& w) const {
  const int64_t n = c_.vision.width, m = c_.vision.mlp;
  return {.norm1 = w.vector("layer_norm1.weight", n),
          .norm1_bias = w.vector("layer_norm1.bias", n),
          .qkv = w.matrix("self_attn.{q,k,v}_proj.weight", {3 * n, n}),
          .qkv_bias = w.vector("self_attn.{q,k,v}_proj.bias", 3 * n),
          .out = w.matrix("self_attn.out_proj.weight", {n, n}),
          .out_bias = w.vector("self_attn.out_proj.bias", n),
          .norm2 = w.vector("layer_norm2.weight", n),
          .norm2_bias = w.vector("layer_norm2.bias", n),
          .fc1 = w.matrix("mlp.fc1.weight", {m, n}),
          .fc1_bias = w.vector("mlp.fc1.bias", m),
          .fc2 = w.matrix("mlp.fc2.weight", {n, m}),
          .fc2_bias = w.vector("mlp.fc2.bias", n)};
}

Tensor Pi0::vision_block(Tensor x, const VisionLayer& l) {
  const int64_t n = c_.vision.width;
  const float eps = float(c_.vision.norm_epsilon);
  const AttentionAttrs heads{.heads = int32_t(c_.vision.heads),
                             .kv_heads = int32_t(c_.vision.heads),
                             .head_dim = int32_t(n / c_.vision.heads),
                             .segments = int32_t(shape_.views),
                             .keys = int32_t(c_.vision.tokens())};
  const int64_t widths[] = {n, n, n};
  const auto qkv = split(linear(layer_norm(x, l.norm1, l.norm1_bias, eps), l.qkv, l.qkv_bias), widths);
  x = residual(x, linear(attention(qkv[0], qkv[1], qkv[2], {}, heads), l.out, l.out_bias));
  const Tensor hidden = gelu(linear(layer_norm(x, l.norm2, l.norm2_bias, eps), l.fc1, l.fc1_bias));
  return residual(x, linear(hidden, l.fc2, l.fc2_bias));
}

Tensor Pi0::vision(Tensor image) {  // → [views·tokens, language width]
  const VisionDims& d = c_.vision;
  const WeightBinder w = w_.at("vision_tower."), patch = w.at("embeddings.patch_embedding.");
  const Tensor patches = image_patches(image, d.image_size, d.patch);
  const Tensor embedded = linear(patches, patch.matrix("weight", {d.width, 3 * d.patch * d.patch}),
                                 patch.vector("bias", d.width));
  Tensor x = residual(w.matrix("embeddings.position_embedding.weight", {d.tokens(), d.width}), embedded);
  for (int64_t i = 0; i < d.layers; ++i)
    x = vision_block(x, vision_layer(w.at(fmt::format("encoder.layers.{}.", i))));
  x = layer_norm(x, w.vector("post_layernorm.weight", d.width), w.vector("post_layernorm.bias", d.width),
                 float(d.norm_epsilon));
  const WeightBinder projector = w_.at("multi_modal_projector.linear.");
  return linear(x, projector.matrix("weight", {c_.language.width, d.width}),
                projector.vector("bias", c_.language.width));
}

// ---- Gemma ----

Tensor Pi0::norm_weight(const WeightBinder& w, const std::string& name, int64_t width, bool modulated) {
  if (!modulated) return w.vector(name + ".weight", width);
  const auto exact = p_.exact();
  return linear(time_, w.matrix(name + ".dense.weight", {3 * width, width}),
                w.vector(name + ".dense.bias", 3 * width));
}

DecoderLayer Pi0::decoder_layer(const WeightBinder& w, const DecoderDims& d, bool modulated) {
  const int64_t q = d.heads * d.head_dim, kv = d.kv_heads * d.head_dim;
  return {.norm1 = norm_weight(w, "input_layernorm", d.width, modulated),
          .norm2 = norm_weight(w, "post_attention_layernorm", d.width, modulated),
          .qkv = w.matrix("self_attn.{q,k,v}_proj.weight", {q + 2 * kv, d.width}),
          .out = w.matrix("self_attn.o_proj.weight", {d.width, q}),
          .gate_up = w.matrix("mlp.{gate,up}_proj.weight", {2 * d.mlp, d.width}),
          .down = w.matrix("mlp.down_proj.weight", {d.width, d.mlp})};
}

Modulation Pi0::modulation(Tensor norm, int64_t step) {
  if (step < 0 || !modulated_) return {.scale = norm};
  const Tensor row = p_.reshape(p_.rows(norm, step, 1), {3, norm.cols() / 3});
  return {.scale = p_.rows(row, 0, 1), .shift = p_.rows(row, 1, 1), .gate = p_.rows(row, 2, 1)};
}

Tensor Pi0::normalize(Tensor x, const Modulation& m, const DecoderDims& d) {
  const float eps = float(d.norm_epsilon);
  return m.shift ? ada_rms_norm(x, m.scale, m.shift, eps) : rms_norm(x, m.scale, eps);
}

Tensor Pi0::attend(Tensor x, const DecoderLayer& l, const DecoderDims& d, Cache& cache, Tensor position) {
  const int64_t widths[] = {d.heads * d.head_dim, d.kv_heads * d.head_dim, d.kv_heads * d.head_dim};
  const auto qkv = split(linear(x, l.qkv), widths);
  const Tensor q = rope(qkv[0], rope_, position, d.head_dim);
  cache.k = append(cache.k, rope(qkv[1], rope_, position, d.head_dim), position);
  cache.v = append(cache.v, qkv[2], position);
  // The suffix sees itself and the prefix, Pi0's state token only the prefix and itself.
  const bool suffix = bool(position), state_token = suffix && !modulated_;
  return attention(q, cache.k, cache.v, length_,
                   {.heads = int32_t(d.heads),
                    .kv_heads = int32_t(d.kv_heads),
                    .head_dim = int32_t(d.head_dim),
                    .keys = suffix ? int32_t(x.rows()) : 0,
                    .lead_rows = state_token ? 1 : 0});
}

Tensor Pi0::block(Tensor x, const DecoderLayer& l, const DecoderDims& d, Cache& cache, int64_t step) {
  const Modulation m1 = modulation(l.norm1, step), m2 = modulation(l.norm2, step);
  const Tensor position = step < 0 ? Tensor{} : length_;
  x = residual(x, linear(attend(normalize(x, m1, d), l, d, cache, position), l.out), m1.gate);
  return residual(x, linear(geglu(linear(normalize(x, m2, d), l.gate_up)), l.down), m2.gate);
}

// ---- the action expert ----

// The steps' times, and all that depends on them alone; folded when the program is built.
void Pi0::record_times() {
  std::vector<float> t(size_t(shape_.steps));
  const double dt = -1.0 / double(shape_.steps);
  float accumulated = 1;
  for (size_t k = 0; k < t.size(); ++k) {
    t[k] = c_.time_grid == TimeGrid::accumulated_f32 ? accumulated : float(1.0 + double(k) * dt);
    accumulated += float(dt);
  }
  const auto exact = p_.exact();
  const int64_t n = c_.expert.width;
  const Tensor embedded = time_embedding(p_.constant("times", {shape_.steps, 1}, t), n,
                                         {.min_period = c_.min_period,
                                          .max_period = c_.max_period,
                                          .in_double = c_.time_precision == DType::f64});
  if (modulated_) {
    const Tensor hidden =
        silu(linear(embedded, w_.matrix("time_mlp_in.weight", {n, n}), w_.vector("time_mlp_in.bias", n)));
    time_ = silu(linear(hidden, w_.matrix("time_mlp_out.weight", {n, n}), w_.vector("time_mlp_out.bias", n)));
  } else {
    // The MLP's first matrix sees [action; time]: its time half is a bias that changes with the step.
    time_ = linear(embedded, w_.columns("action_time_mlp_in.weight", {n, 2 * n}, n, n),
                   w_.vector("action_time_mlp_in.bias", n));
  }
}

Tensor Pi0::suffix(Tensor x, Tensor state, int64_t step) {
  const Tensor tokens = linear(x, action_in_, action_in_bias_);
  if (modulated_) return tokens;
  const Tensor hidden = silu(linear(tokens, action_time_, p_.rows(time_, step, 1)));
  return concat({state, linear(hidden, time_out_, time_out_bias_)});
}

Tensor Pi0::velocity(Tensor x, Tensor state, const std::vector<DecoderLayer>& layers, Tensor final_norm,
                     int64_t step) {
  Tensor h = suffix(x, state, step);
  for (size_t i = 0; i < layers.size(); ++i) h = block(h, layers[i], c_.expert, caches_[i], step);
  const auto exact = p_.exact();
  h = normalize(p_.rows(h, h.rows() - shape_.horizon, shape_.horizon), modulation(final_norm, step),
                c_.expert);
  return linear(h, action_out_, action_out_bias_);
}

void Pi0::record() {
  const DecoderDims &language = c_.language, &expert = c_.expert;
  const int64_t image_tokens = shape_.views * c_.vision.tokens(), prefix = image_tokens + shape_.text_tokens;
  const int64_t suffix_rows = shape_.horizon + (modulated_ ? 0 : 1), a = c_.action_dim, n = expert.width;
  const Tensor image =
      p_.input("image", {shape_.views, 3 * c_.vision.image_size * c_.vision.image_size}, shape_.image);
  const Tensor ids = p_.input("token_ids", {1, shape_.text_tokens}, DType::i32);
  length_ = p_.input("prefix_length", {1, 1}, DType::i32);
  const Tensor noise = p_.input("noise", {shape_.horizon, a}, DType::f32);
  const Tensor state = modulated_ ? Tensor{} : p_.input("state", {1, c_.state_dim}, DType::f32);
  rope_ = rope_table(p_, prefix + suffix_rows, language.head_dim, language.rope_theta);
  record_times();

  p_.stage("vision");
  const Tensor images = vision(image);

  p_.stage("prefix");
  const Tensor table = w_.matrix("language_model.embed_tokens.weight", {c_.vocab, language.width});
  Tensor x = concat({images, embedding(ids, table, float(c_.embedding_scale))});
  for (int64_t i = 0; i < language.layers; ++i) {
    const Shape room{prefix + suffix_rows, language.kv_heads * language.head_dim};
    caches_.push_back({p_.buffer(fmt::format("k{}", i), room, p_.compute()),
                       p_.buffer(fmt::format("v{}", i), room, p_.compute())});
    x = block(x, decoder_layer(w_.at(fmt::format("language_model.layers.{}.", i)), language, false), language,
              caches_.back(), -1);
  }

  p_.stage("action");
  Tensor state_token;
  action_in_ = w_.matrix("action_in_proj.weight", {n, a});
  action_in_bias_ = w_.vector("action_in_proj.bias", n);
  action_out_ = w_.matrix("action_out_proj.weight", {a, n});
  action_out_bias_ = w_.vector("action_out_proj.bias", a);
  if (!modulated_) {
    action_time_ = w_.columns("action_time_mlp_in.weight", {n, 2 * n}, 0, n);
    time_out_ = w_.matrix("action_time_mlp_out.weight", {n, n}),
    time_out_bias_ = w_.vector("action_time_mlp_out.bias", n);
    state_token =
        linear(state, w_.matrix("state_proj.weight", {n, c_.state_dim}), w_.vector("state_proj.bias", n));
  }
  std::vector<DecoderLayer> layers;
  for (int64_t i = 0; i < expert.layers; ++i) {
    layers.push_back(decoder_layer(w_.at(fmt::format("expert.layers.{}.", i)), expert, modulated_));
  }
  const Tensor final_norm = norm_weight(w_.at("expert."), "norm", n, modulated_);
  Tensor actions = noise;
  for (int64_t step = 0; step < shape_.steps; ++step) {
    actions = euler_step(actions, velocity(actions, state_token, layers, final_norm, step),
                         -1.f / float(shape_.steps));
  }
  p_.output("actions", actions);
}

}  // namespace

void record_pi0(Program& program, const PolicyConfig& config, const WeightSource& source,
                const PolicyShape& shape) {
  Pi0(program, config, source, shape).record();
}

}  // namespace flashrt
