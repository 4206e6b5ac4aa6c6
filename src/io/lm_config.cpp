// Reading the configurations of language models, with every value checked.
#include "io/lm_config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/gpt2_config.h"

namespace flashrt {

namespace {

constexpr int64_t kMost = int64_t{1} << 24;

int64_t size_at(const JsonNode& config, std::string_view key, int64_t most = kMost) {
  return config.at(key).integer(1, most);
}

// The equations of yarn: Peng et al. 2023; a factor m of the logits' scale is spread over cosine and sine.
double yarn_magnitude(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1; }

void read_yarn(const JsonNode& node, RopeRule& rule) {
  rule.beta_fast = node.number_or("beta_fast", 32, 1e-3, 1e6);
  rule.beta_slow = node.number_or("beta_slow", 1, 1e-3, 1e6);
  rule.truncate = node.boolean_or("truncate", true);
  const double mscale = node.number_or("mscale", 0, 0, 1e3),
               all = node.number_or("mscale_all_dim", 0, 0, 1e3);
  rule.attention_factor = mscale > 0 && all > 0
                              ? yarn_magnitude(rule.factor, mscale) / yarn_magnitude(rule.factor, all)
                              : yarn_magnitude(rule.factor, 1);
  rule.attention_factor = node.number_or("attention_factor", rule.attention_factor, 1e-3, 1e3);
}

// Two spellings: `rope_theta` beside `rope_scaling`, or both in `rope_parameters`.
RopeRule read_rope(const JsonNode& config, int64_t positions) {
  RopeRule rule;
  rule.theta = config.number_or("rope_theta", 10000, 1, 1e12);
  auto node = config.find("rope_parameters");
  if (!node) node = config.find("rope_scaling");
  if (!node) return rule;
  rule.theta = node->number_or("rope_theta", rule.theta, 1, 1e12);
  if (node->number_or("partial_rotary_factor", 1, 0, 1) != 1) {
    node->at("partial_rotary_factor").fail_expected("1 (only whole heads are rotated)");
  }
  const char* key = node->find("rope_type") ? "rope_type" : "type";
  const std::string type = node->text_or(key, "default");
  if (type == "default") return rule;
  rule.factor = node->at("factor").number(1, 1e6);
  rule.trained =
      node->integer_or("original_max_position_embeddings",
                       config.integer_or("original_max_position_embeddings", positions, 1, kMost), 1, kMost);
  if (type == "linear") {
    rule.scaling = RopeScaling::linear;
  } else if (type == "llama3") {
    rule.scaling = RopeScaling::llama3;
    rule.low_frequency = node->at("low_freq_factor").number(1e-6, 1e6);
    rule.high_frequency = node->at("high_freq_factor").number(1e-6, 1e6);
    if (rule.high_frequency <= rule.low_frequency) {
      node->at("high_freq_factor").fail_expected("more than low_freq_factor");
    }
  } else if (type == "yarn") {
    rule.scaling = RopeScaling::yarn;
    read_yarn(*node, rule);
  } else {
    node->at(key).fail_expected("default, linear, llama3 or yarn");
  }
  return rule;
}

bool read_gate(const JsonNode& config, bool gemma) {
  const char* key = config.find("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string name = config.text_or(key, gemma ? "gelu_pytorch_tanh" : "silu");
  if (name == "silu" || name == "swish") return false;
  // Gemma's first configurations say "gelu" and mean the tanh form, which the model was trained with.
  if (name == "gelu_pytorch_tanh" || (gemma && name == "gelu")) return true;
  config.at(key).fail_expected("silu or gelu_pytorch_tanh");
}

// Mistral slides in every layer; Qwen from layer max_window_layers on, if use_sliding_window; `layer_types`
// spells it out.
void read_windows(const JsonNode& config, LmConfig& c) {
  c.window.assign(size_t(c.layers), 0);
  const auto size = config.find("sliding_window");
  const bool qwen = c.family.starts_with("qwen");
  if ((c.family != "mistral" && c.family != "mixtral" && !qwen) || !size) return;
  if (qwen && !config.boolean_or("use_sliding_window", false)) return;
  const int64_t window = size->integer(1, kMost);
  if (const auto types = config.find("layer_types")) {
    const auto elements = types->elements();
    if (int64_t(elements.size()) != c.layers) types->fail_expected(fmt::format("{} layers", c.layers));
    for (size_t i = 0; i < elements.size(); ++i) {
      const std::string& type = elements[i].text();
      if (type == "sliding_attention")
        c.window[i] = window;
      else if (type != "full_attention")
        elements[i].fail_expected("full_attention or sliding_attention");
    }
    return;
  }
  const int64_t first =
      qwen && c.family != "qwen3_moe" ? config.integer_or("max_window_layers", 28, 0, kMost) : 0;
  for (int64_t i = first; i < c.layers; ++i) c.window[size_t(i)] = window;
}

void read_experts(const JsonNode& config, LmConfig& c) {
  if (c.family != "mixtral" && c.family != "qwen3_moe") return;
  const bool mixtral = c.family == "mixtral";
  const char* key = !mixtral && config.find("num_experts") ? "num_experts" : "num_local_experts";
  c.experts = size_at(config, key, 65536);
  if (c.layers * c.experts > int64_t{1} << 18) {
    config.at(key).fail_expected(fmt::format("at most {} experts in all {} layers", 1 << 18, c.layers));
  }
  c.experts_used = config.at("num_experts_per_tok").integer(1, c.experts);
  if (mixtral) return;
  c.mlp = size_at(config, "moe_intermediate_size");
  c.normalise_experts = config.boolean_or("norm_topk_prob", false);
  if (config.integer_or("decoder_sparse_step", 1, 0, kMost) != 1) {
    config.at("decoder_sparse_step").fail_expected("1 (every layer has experts)");
  }
  const auto dense = config.find("mlp_only_layers");
  if (dense && !dense->elements().empty()) dense->fail_expected("an empty list (every layer has experts)");
}

}  // namespace

std::vector<int32_t> read_lm_tokens(const JsonNode& config, std::string_view key, int64_t vocab) {
  std::vector<int32_t> ids;
  const auto node = config.find(key);
  if (!node) return ids;
  if (!node->is_array()) return {int32_t(node->integer(0, vocab - 1))};
  for (const JsonNode& id : node->elements()) ids.push_back(int32_t(id.integer(0, vocab - 1)));
  return ids;
}

LmConfig read_lm_config(const JsonNode& config) {
  LmConfig c;
  c.family = config.at("model_type").text();
  static constexpr const char* kFamilies[] = {"llama", "mistral", "qwen2",     "qwen3",
                                              "gemma", "mixtral", "qwen3_moe", "gpt2"};
  if (std::ranges::find(kFamilies, c.family) == std::end(kFamilies)) {
    config.at("model_type").fail_expected(fmt::format("one of {}", fmt::join(kFamilies, ", ")));
  }
  if (c.family == "gpt2") return read_gpt2_config(config);
  const bool gemma = c.family == "gemma", qwen2 = c.family == "qwen2", qwen3 = c.family.starts_with("qwen3");
  c.layers = size_at(config, "num_hidden_layers", 4096);
  c.width = size_at(config, "hidden_size");
  c.mlp = size_at(config, "intermediate_size");
  c.heads = size_at(config, "num_attention_heads", 65536);
  c.kv_heads = config.integer_or("num_key_value_heads", c.heads, 1, 65536);
  if (c.heads % c.kv_heads != 0) {
    config.at("num_key_value_heads")
        .fail_expected(fmt::format("a divisor of num_attention_heads, {}", c.heads));
  }
  if (!config.find("head_dim") && !qwen3 && !gemma && c.width % c.heads != 0) {
    config.at("num_attention_heads")
        .fail_expected(fmt::format("a divisor of hidden_size, {}, or a head_dim", c.width));
  }
  c.head_dim = config.integer_or("head_dim", qwen3 ? 128 : gemma ? 256 : c.width / c.heads, 2, 1024);
  if (c.head_dim % 2 != 0)
    fail("{}: head_dim: expected an even number, found {}", config.source(), c.head_dim);
  c.vocab = size_at(config, "vocab_size");
  c.positions = config.integer_or("max_position_embeddings", 2048, 1, kMost);
  c.norm_epsilon = config.number_or("rms_norm_eps", 1e-6, 1e-12, 1);
  c.embedding_scale = gemma ? std::sqrt(double(c.width)) : 1;
  c.rope = read_rope(config, c.positions);
  c.tied = config.boolean_or("tie_word_embeddings", gemma);
  const bool biased = config.boolean_or("attention_bias", false);
  c.qkv_bias = qwen2 || biased;
  c.out_bias = !qwen2 && biased;
  c.mlp_bias = config.boolean_or("mlp_bias", false);
  c.qk_norm = qwen3;
  c.norm_adds_one = gemma;
  c.gelu_gate = read_gate(config, gemma);
  c.end_tokens = read_lm_tokens(config, "eos_token_id", c.vocab);
  read_experts(config, c);
  read_windows(config, c);
  return c;
}

LmExpertNames lm_expert_names(const LmConfig& config) {
  if (config.family == "mixtral")
    return {"block_sparse_moe.gate", "block_sparse_moe.experts", "w1", "w3", "w2"};
  return {"mlp.gate", "mlp.experts", "gate_proj", "up_proj", "down_proj"};
}

std::vector<LmWeightSpec> lm_weight_specs(const LmConfig& c) {
  if (c.family == "gpt2") return gpt2_weight_specs(c);
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  std::vector<LmWeightSpec> specs{{"model.embed_tokens.weight", {c.vocab, c.width}},
                                  {"model.norm.weight", {c.width}}};
  if (!c.tied) specs.push_back({"lm_head.weight", {c.vocab, c.width}});
  for (int64_t i = 0; i < c.layers; ++i) {
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, bool biased = false) {
      const std::string stem = fmt::format("model.layers.{}.{}", i, name);
      if (biased) specs.push_back({stem + ".bias", {shape[0]}});
      specs.push_back({stem + ".weight", std::move(shape)});
    };
    add("input_layernorm", {c.width});
    add("post_attention_layernorm", {c.width});
    add("self_attn.q_proj", {q, c.width}, c.qkv_bias);
    add("self_attn.k_proj", {kv, c.width}, c.qkv_bias);
    add("self_attn.v_proj", {kv, c.width}, c.qkv_bias);
    add("self_attn.o_proj", {c.width, q}, c.out_bias);
    if (c.experts == 0) {
      add("mlp.gate_proj", {c.mlp, c.width}, c.mlp_bias);
      add("mlp.up_proj", {c.mlp, c.width}, c.mlp_bias);
      add("mlp.down_proj", {c.width, c.mlp}, c.mlp_bias);
    }
    const LmExpertNames names = lm_expert_names(c);
    if (c.experts > 0) add(names.router, {c.experts, c.width});
    for (int64_t e = 0; e < c.experts; ++e) {
      const std::string stem = fmt::format("{}.{}.", names.stem, e);
      add(stem + names.gate, {c.mlp, c.width});
      add(stem + names.up, {c.mlp, c.width});
      add(stem + names.down, {c.width, c.mlp});
    }
    if (c.qk_norm) add("self_attn.q_norm", {c.head_dim});
    if (c.qk_norm) add("self_attn.k_norm", {c.head_dim});
  }
  return specs;
}

LmGeneration read_lm_generation(const JsonNode& node, int64_t vocab) {
  LmGeneration g;
  g.end_tokens = read_lm_tokens(node, "eos_token_id", vocab);
  g.repetition_penalty = node.number_or("repetition_penalty", 1, 1e-3, 1e3);
  if (!node.boolean_or("do_sample", false)) return g;
  g.temperature = node.number_or("temperature", 1, 0, 1e3);
  g.top_k = node.integer_or("top_k", 50, 0, kMost);
  g.top_p = node.number_or("top_p", 1, 0, 1);
  g.min_p = node.number_or("min_p", 0, 0, 1);
  return g;
}

}  // namespace flashrt
