// Canonical names, their shapes, and the renames of each checkpoint layout.
#include "io/policy_weights.h"

#include <fmt/format.h>

namespace flashrt {

namespace {

using Weights = std::vector<WeightSpec>;

void add_linear(Weights& weights, const std::string& name, int64_t out, int64_t in, bool bias) {
  weights.push_back({name + ".weight", {out, in}});
  if (bias) weights.push_back({name + ".bias", {out}});
}

void add_layer_norm(Weights& weights, const std::string& name, int64_t width) {
  weights.push_back({name + ".weight", {width}});
  weights.push_back({name + ".bias", {width}});
}

void add_vision(Weights& weights, const VisionDims& v, int64_t projected) {
  const std::string tower = "vision_tower.";
  weights.push_back({tower + "embeddings.patch_embedding.weight", {v.width, 3, v.patch, v.patch}});
  weights.push_back({tower + "embeddings.patch_embedding.bias", {v.width}});
  weights.push_back({tower + "embeddings.position_embedding.weight", {v.tokens(), v.width}});
  for (int64_t i = 0; i < v.layers; ++i) {
    const std::string layer = fmt::format("{}encoder.layers.{}.", tower, i);
    add_layer_norm(weights, layer + "layer_norm1", v.width);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      add_linear(weights, layer + "self_attn." + name, v.width, v.width, true);
    }
    add_layer_norm(weights, layer + "layer_norm2", v.width);
    add_linear(weights, layer + "mlp.fc1", v.mlp, v.width, true);
    add_linear(weights, layer + "mlp.fc2", v.width, v.mlp, true);
  }
  add_layer_norm(weights, tower + "post_layernorm", v.width);
  add_linear(weights, "multi_modal_projector.linear", projected, v.width, true);
}

// An RMSNorm weight, or the linear that makes scale, shift and gate from the condition (adaRMS).
void add_rms_norm(Weights& weights, const std::string& name, int64_t width, bool adaptive) {
  if (adaptive)
    add_linear(weights, name + ".dense", 3 * width, width, true);
  else
    weights.push_back({name + ".weight", {width}});
}

void add_decoder(Weights& weights, const std::string& stack, const DecoderDims& d, bool adaptive) {
  for (int64_t i = 0; i < d.layers; ++i) {
    const std::string layer = fmt::format("{}.layers.{}.", stack, i);
    add_rms_norm(weights, layer + "input_layernorm", d.width, adaptive);
    add_linear(weights, layer + "self_attn.q_proj", d.heads * d.head_dim, d.width, false);
    add_linear(weights, layer + "self_attn.k_proj", d.kv_heads * d.head_dim, d.width, false);
    add_linear(weights, layer + "self_attn.v_proj", d.kv_heads * d.head_dim, d.width, false);
    add_linear(weights, layer + "self_attn.o_proj", d.width, d.heads * d.head_dim, false);
    add_rms_norm(weights, layer + "post_attention_layernorm", d.width, adaptive);
    add_linear(weights, layer + "mlp.gate_proj", d.mlp, d.width, false);
    add_linear(weights, layer + "mlp.up_proj", d.mlp, d.width, false);
    add_linear(weights, layer + "mlp.down_proj", d.width, d.mlp, false);
  }
  add_rms_norm(weights, stack + ".norm", d.width, adaptive);
}

bool consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

StoredName named(std::string_view prefix, std::string_view rest) {
  return {fmt::format("{}{}", prefix, rest)};
}

const StoredName kUnused{};

// Below `paligemma.model.` or `vlm.`; older transformers have no `.model` there but one inside
// language_model.
std::optional<StoredName> vision_language_name(std::string_view name) {
  if (consume(name, "lm_head.") || consume(name, "language_model.lm_head.")) {
    return StoredName{fmt::format("language_model.embed_tokens.{}", name), true};
  }
  consume(name, "model.");
  if (consume(name, "vision_tower.")) {
    consume(name, "vision_model.");
    if (name.starts_with("head.") || name == "embeddings.position_ids")
      return kUnused;  // pooling head, a buffer
    return named("vision_tower.", name);
  }
  if (consume(name, "language_model.")) {
    consume(name, "model.");
    return named("language_model.", name);
  }
  if (name.starts_with("multi_modal_projector.")) return named("", name);
  return std::nullopt;
}

std::optional<StoredName> expert_name(std::string_view name, PolicyFamily family) {
  consume(name, "model.");
  if (name.starts_with("lm_head.") || name.starts_with("embed_tokens."))
    return kUnused;  // never reads tokens
  const bool plain_norm = name == "norm.weight" || name.ends_with("layernorm.weight");
  if (family == PolicyFamily::pi05 && plain_norm) return kUnused;  // adaRMS has no weight of its own
  return named("expert.", name);
}

// Projections around the expert. Fine-tunes may carry the other family's MLP names.
std::optional<StoredName> projection_name(std::string_view name, PolicyFamily family) {
  const bool pi05 = family == PolicyFamily::pi05;
  const std::string_view mlp = pi05 ? "time_mlp_" : "action_time_mlp_";
  for (const std::string_view prefix : {"action_time_mlp_", "time_mlp_"}) {
    if (name.starts_with(prefix))
      return StoredName{fmt::format("{}{}", mlp, name.substr(prefix.size())), prefix != mlp};
  }
  if (name.starts_with("state_proj.")) return pi05 ? kUnused : named("", name);
  if (name.starts_with("action_in_proj.") || name.starts_with("action_out_proj.")) return named("", name);
  return std::nullopt;
}

}  // namespace

std::vector<WeightSpec> policy_weights(const PolicyConfig& c) {
  Weights weights;
  const bool pi05 = c.family == PolicyFamily::pi05;
  const int64_t width = c.expert.width;
  add_vision(weights, c.vision, c.language.width);
  weights.push_back({"language_model.embed_tokens.weight", {c.vocab, c.language.width}});
  add_decoder(weights, "language_model", c.language, false);
  add_linear(weights, "action_in_proj", width, c.action_dim, true);
  if (pi05) {
    add_linear(weights, "time_mlp_in", width, width, true);
    add_linear(weights, "time_mlp_out", width, width, true);
  } else {
    add_linear(weights, "state_proj", width, c.state_dim, true);
    add_linear(weights, "action_time_mlp_in", width, 2 * width, true);
    add_linear(weights, "action_time_mlp_out", width, width, true);
  }
  add_decoder(weights, "expert", c.expert, pi05);
  add_linear(weights, "action_out_proj", c.action_dim, width, true);
  return weights;
}

std::optional<StoredName> canonical_weight_name(std::string_view name, PolicyFamily family) {
  for (const char* statistics : {"normalize_inputs.", "normalize_targets.", "unnormalize_outputs."}) {
    if (name.starts_with(statistics)) return kUnused;  // read as statistics, not as weights
  }
  if (name.ends_with("rotary_emb.inv_freq")) return kUnused;
  consume(name, "model.");
  if (name.starts_with("proprio_history_proj."))
    return kUnused;  // of policies with memory, refused by the config
  if (consume(name, "paligemma_with_expert.paligemma.") || consume(name, "vlm."))
    return vision_language_name(name);
  if (consume(name, "paligemma_with_expert.gemma_expert.") || consume(name, "dit."))
    return expert_name(name, family);
  consume(name, "embed_action_time.");
  return projection_name(name, family);
}

bool has_adaptive_norms(std::string_view stored) {
  return stored.ends_with("gemma_expert.model.norm.dense.weight");
}

std::string lerobot_weight_name(std::string_view name) {
  if (consume(name, "expert.")) return fmt::format("model.paligemma_with_expert.gemma_expert.model.{}", name);
  if (name == "language_model.embed_tokens.weight")
    return "model.paligemma_with_expert.paligemma.lm_head.weight";
  for (const char* part : {"vision_tower.", "language_model.", "multi_modal_projector."}) {
    if (name.starts_with(part)) return fmt::format("model.paligemma_with_expert.paligemma.model.{}", name);
  }
  return fmt::format("model.{}", name);
}

}  // namespace flashrt
