// config.json of LeRobot, openpi and transformers → PolicyConfig.
#include "io/policy_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"

namespace flashrt {

namespace {

constexpr int64_t kMaxWidth = 65536, kMaxLayers = 1024, kMaxHeadDim = 1024, kMaxVocab = 1'000'000;
constexpr int64_t kMaxHorizon = 4096, kMaxActionDim = 1024, kMaxPrompt = 65536, kMaxSteps = 1000;

constexpr DecoderDims kGemma2b{};
constexpr DecoderDims kGemma300m{.width = 1024, .mlp = 4096};
constexpr DecoderDims kDummy{.width = 64, .layers = 4, .mlp = 128, .heads = 8, .kv_heads = 1, .head_dim = 16};
// transformers fills fields absent from a sub-config with its class's defaults, not with Pi0's.
constexpr DecoderDims kGemmaClass{.width = 3072, .layers = 28, .mlp = 24576, .heads = 16, .kv_heads = 16};
constexpr VisionDims kSiglipClass{.width = 768, .layers = 12, .mlp = 3072, .heads = 12, .patch = 16};
constexpr int64_t kGemmaClassVocab = 256000;

DecoderDims variant(const JsonNode& config, std::string_view key, const DecoderDims& fallback) {
  const auto node = config.find(key);
  if (!node) return fallback;
  const std::string& name = node->text();
  if (name == "gemma_2b") return kGemma2b;
  if (name == "gemma_300m") return kGemma300m;
  if (name == "dummy") return kDummy;
  node->fail_expected("gemma_2b, gemma_300m or dummy (LoRA variants: merge the adapters first)");
}

void check_activation(const JsonNode& node) {
  for (const char* key : {"hidden_act", "hidden_activation"}) {
    const auto act = node.find(key);
    if (act && act->text() != "gelu_pytorch_tanh" && act->text() != "gelu") {
      act->fail_expected("\"gelu_pytorch_tanh\"");
    }
  }
}

void read_decoder(const JsonNode& node, DecoderDims& dims) {
  check_activation(node);
  if (node.boolean_or("attention_bias", false)) node.at("attention_bias").fail_expected("false");
  dims.width = node.integer_or("hidden_size", dims.width, 1, kMaxWidth);
  dims.layers = node.integer_or("num_hidden_layers", dims.layers, 1, kMaxLayers);
  dims.mlp = node.integer_or("intermediate_size", dims.mlp, 1, kMaxWidth);
  dims.heads = node.integer_or("num_attention_heads", dims.heads, 1, kMaxWidth);
  dims.kv_heads = node.integer_or("num_key_value_heads", dims.kv_heads, 1, kMaxWidth);
  dims.head_dim = node.integer_or("head_dim", dims.head_dim, 1, kMaxHeadDim);
  dims.norm_epsilon = node.number_or("rms_norm_eps", dims.norm_epsilon, 1e-12, 1);
  dims.rope_theta = node.number_or("rope_theta", dims.rope_theta, 1e-3, 1e12);
  if (const auto rope = node.find("rope_parameters")) {
    dims.rope_theta = rope->number_or("rope_theta", dims.rope_theta, 1e-3, 1e12);
    if (rope->text_or("rope_type", "default") != "default")
      rope->at("rope_type").fail_expected("\"default\"");
  }
}

void read_vision(const JsonNode& node, VisionDims& dims) {
  check_activation(node);
  node.integer_or("num_channels", 3, 3, 3);
  dims.width = node.integer_or("hidden_size", dims.width, 1, kMaxWidth);
  dims.layers = node.integer_or("num_hidden_layers", dims.layers, 1, kMaxLayers);
  dims.mlp = node.integer_or("intermediate_size", dims.mlp, 1, kMaxWidth);
  dims.heads = node.integer_or("num_attention_heads", dims.heads, 1, kMaxWidth);
  dims.image_size = node.integer_or("image_size", dims.image_size, 1, 4096);
  dims.patch = node.integer_or("patch_size", dims.patch, 1, 1024);
  dims.norm_epsilon = node.number_or("layer_norm_eps", dims.norm_epsilon, 1e-12, 1);
}

// vlm_config and dit_config override what the variant names say.
void read_sub_configs(const JsonNode& config, PolicyConfig& result) {
  const bool class_defaults = result.layout == PolicyLayout::transformers;
  if (const auto vlm = config.find("vlm_config")) {
    result.vocab = vlm->integer_or("vocab_size", result.vocab, 1, kMaxVocab);
    if (const auto text = vlm->find("text_config")) {
      if (class_defaults) result.language = kGemmaClass;
      read_decoder(*text, result.language);
      result.vocab =
          text->integer_or("vocab_size", class_defaults ? kGemmaClassVocab : result.vocab, 1, kMaxVocab);
    }
    if (const auto vision = vlm->find("vision_config")) {
      if (class_defaults) result.vision = kSiglipClass;
      read_vision(*vision, result.vision);
    }
    if (const auto projection = vlm->find("projection_dim")) {
      projection->integer(result.language.width, result.language.width);
    }
  }
  for (const char* key : {"dit_config", "expert_config"}) {
    if (const auto expert = config.find(key)) {
      if (class_defaults) result.expert = kGemmaClass;
      read_decoder(*expert, result.expert);
    }
  }
}

DType read_dtype(const JsonNode& config, std::initializer_list<const char*> keys, DType fallback) {
  for (const char* key : keys) {
    const auto node = config.find(key);
    if (!node) continue;
    if (node->text() == "float32") return DType::f32;
    if (node->text() == "bfloat16") return DType::bf16;
    if (node->text() == "float16") return DType::f16;
    node->fail_expected("\"float32\", \"bfloat16\" or \"float16\"");
  }
  return fallback;
}

void read_sampler(const JsonNode& config, PolicyConfig& result) {
  result.horizon = config.integer_or("chunk_size", result.horizon, 1, kMaxHorizon);
  result.action_dim = config.integer_or("max_action_dim", result.action_dim, 1, kMaxActionDim);
  result.state_dim = config.integer_or("max_state_dim", result.state_dim, 1, kMaxActionDim);
  result.steps = config.integer_or("num_inference_steps", result.steps, 1, kMaxSteps);
  result.min_period = config.number_or("min_period", result.min_period, 1e-9, 1e9);
  result.max_period = config.number_or("max_period", result.max_period, 1e-9, 1e9);
}

int64_t feature_dim(const JsonNode& feature, int64_t limit) {
  const auto shape = feature.at("shape").elements();
  if (shape.size() != 1) feature.at("shape").fail_expected("one dimension");
  return shape[0].integer(1, limit);
}

// Camera slots are the visual features in the file's order; empty cameras are masked, which equals absent.
void read_features(const JsonNode& config, PolicyConfig& result) {
  if (const auto inputs = config.find("input_features")) {
    for (const auto& [key, feature] : inputs->members()) {
      const std::string type = feature.text_or("type", "");
      if (key == "observation.state") result.robot_state_dim = feature_dim(feature, result.state_dim);
      if (type != "VISUAL" || key.find("empty_camera") != key.npos) continue;
      constexpr std::string_view kPrefix = "observation.images.";
      result.cameras.emplace_back(key.starts_with(kPrefix) ? key.substr(kPrefix.size()) : key);
    }
  }
  if (const auto outputs = config.find("output_features")) {
    if (const auto action = outputs->find("action"))
      result.robot_action_dim = feature_dim(*action, result.action_dim);
  }
}

void read_lerobot(const JsonNode& config, PolicyConfig& result) {
  const std::string& type = config.at("type").text();
  if (type != "pi0" && type != "pi05") config.at("type").fail_expected("the policy type \"pi0\" or \"pi05\"");
  const bool pi05 = type == "pi05";
  result.family = pi05 ? PolicyFamily::pi05 : PolicyFamily::pi0;
  result.language = variant(config, "paligemma_variant", kGemma2b);
  result.expert = variant(config, "action_expert_variant", kGemma300m);
  read_sampler(config, result);
  result.executed_actions = config.integer_or("n_action_steps", 0, 1, result.horizon);
  result.max_prompt_tokens = config.integer_or("tokenizer_max_length", pi05 ? 200 : 48, 1, kMaxPrompt);
  read_features(config, result);
  if (config.boolean_or("use_proprioceptive_memory", false)) {
    config.at("use_proprioceptive_memory").fail_expected("false (policies with memory are not supported)");
  }
  result.source_dtype = read_dtype(config, {"dtype"}, DType::f32);
  result.state_in_prompt = pi05;
  result.state_mode = result.action_mode = pi05 ? NormMode::quantile : NormMode::zscore;
  if (const auto modes = config.find("normalization_mapping")) {
    if (const auto mode = modes->find("STATE")) result.state_mode = read_norm_mode(*mode);
    if (const auto mode = modes->find("ACTION")) result.action_mode = read_norm_mode(*mode);
    if (const auto mode = modes->find("VISUAL"); mode && read_norm_mode(*mode) != NormMode::identity) {
      mode->fail_expected("\"IDENTITY\" (images are scaled to [-1, 1])");
    }
  }
}

void check_image_resolution(const JsonNode& config, const VisionDims& vision) {
  const auto resolution = config.find("image_resolution");
  if (!resolution) return;
  const auto sides = resolution->elements();
  if (sides.size() != 2) resolution->fail_expected("[height, width]");
  for (const JsonNode& side : sides) side.integer(vision.image_size, vision.image_size);
}

void read_openpi(const JsonNode& config, PolicyConfig& result, bool adaptive_norms) {
  result.family = adaptive_norms ? PolicyFamily::pi05 : PolicyFamily::pi0;
  result.language = variant(config, "paligemma_variant", kGemma2b);
  result.expert = variant(config, "action_expert_variant", kGemma300m);
  read_sampler(config, result);
  result.horizon = config.at("action_horizon").integer(1, kMaxHorizon);
  result.action_dim = config.integer_or("action_dim", 32, 1, kMaxActionDim);
  result.state_dim = result.action_dim;
  result.max_prompt_tokens = config.integer_or("max_token_len", adaptive_norms ? 200 : 48, 1, kMaxPrompt);
  result.source_dtype = read_dtype(config, {"precision"}, DType::bf16);
  result.cameras = {"base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"};
  result.time_grid = TimeGrid::accumulated_f32;
  result.resize = ResizeRule::pillow_antialias;
  result.prompt = PromptRule::openpi;
  result.state_in_prompt = config.boolean_or("discrete_state_input", adaptive_norms);
  result.state_mode = result.action_mode = adaptive_norms ? NormMode::quantile : NormMode::zscore;
}

void read_transformers(const JsonNode& config, PolicyConfig& result) {
  result.family = PolicyFamily::pi0;
  read_sampler(config, result);
  result.source_dtype = read_dtype(config, {"dtype", "torch_dtype"}, DType::f32);
  result.cameras = {"base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"};
  result.time_precision = DType::f32;
  result.resize = ResizeRule::bicubic;
  result.prompt = PromptRule::transformers;
  result.state_mode = result.action_mode = NormMode::zscore;
}

PolicyLayout layout_of(const JsonNode& config) {
  if (config.find("type")) return PolicyLayout::lerobot;
  if (config.find("action_horizon")) return PolicyLayout::openpi;
  if (const auto type = config.find("model_type")) {
    if (type->text() == "pi0") return PolicyLayout::transformers;
    type->fail_expected("the model type \"pi0\"");
  }
  config.fail_expected(
      "the configuration of a policy: \"type\" (LeRobot), \"model_type\" (transformers) or "
      "\"action_horizon\" (openpi)");
}

}  // namespace

std::string_view name_of(PolicyFamily family) { return family == PolicyFamily::pi0 ? "pi0" : "pi05"; }

std::string_view name_of(PolicyLayout layout) {
  return layout == PolicyLayout::lerobot  ? "lerobot"
         : layout == PolicyLayout::openpi ? "openpi"
                                          : "transformers";
}

std::string_view name_of(ResizeRule rule) {
  return rule == ResizeRule::pillow_antialias ? "antialiased bilinear"
         : rule == ResizeRule::torch_bilinear ? "bilinear"
                                              : "bicubic";
}

std::string_view name_of(PromptRule rule) {
  return rule == PromptRule::lerobot ? "lerobot" : rule == PromptRule::openpi ? "openpi" : "transformers";
}

NormMode read_norm_mode(const JsonNode& node) {
  const std::string& text = node.text();
  if (text == "IDENTITY") return NormMode::identity;
  if (text == "MEAN_STD") return NormMode::zscore;
  if (text == "MIN_MAX") return NormMode::minmax;
  if (text == "QUANTILES") return NormMode::quantile;
  if (text == "QUANTILE10") return NormMode::quantile10;
  node.fail_expected("IDENTITY, MEAN_STD, MIN_MAX, QUANTILES or QUANTILE10");
}

PolicyConfig read_policy_config(const JsonNode& config, bool adaptive_norms) {
  PolicyConfig result;
  result.layout = layout_of(config);
  switch (result.layout) {
    case PolicyLayout::lerobot: read_lerobot(config, result); break;
    case PolicyLayout::openpi: read_openpi(config, result, adaptive_norms); break;
    case PolicyLayout::transformers: read_transformers(config, result); break;
  }
  read_sub_configs(config, result);
  check_image_resolution(config, result.vision);
  check_policy_config(result, config.source());
  // openpi multiplies by the exact constant; transformers' embedding first rounds it to the weights' type.
  result.embedding_scale = double(float(std::sqrt(double(result.language.width))));
  if (result.layout != PolicyLayout::openpi) {
    const float scale = float(result.embedding_scale);
    if (result.source_dtype == DType::bf16) result.embedding_scale = bf16_to_f32(f32_to_bf16(scale));
    if (result.source_dtype == DType::f16) result.embedding_scale = f16_to_f32(f32_to_f16(scale));
  }
  return result;
}

void check_policy_config(const PolicyConfig& c, const std::string& source) {
  const auto require = [&](bool ok, std::string_view what, int64_t a, int64_t b) {
    if (!ok) fail("{}: expected {}, found {} and {}", source, what, a, b);
  };
  const DecoderDims &l = c.language, &e = c.expert;
  require(c.vision.width % c.vision.heads == 0, "a vision width that its heads divide", c.vision.width,
          c.vision.heads);
  require(c.vision.image_size >= c.vision.patch, "an image no smaller than a patch", c.vision.image_size,
          c.vision.patch);
  require(l.heads % l.kv_heads == 0, "attention heads that are a multiple of the key-value heads", l.heads,
          l.kv_heads);
  require(l.heads * l.head_dim <= kMaxWidth, fmt::format("heads × head_dim of at most {}", kMaxWidth),
          l.heads, l.head_dim);
  require(l.head_dim % 2 == 0, "an even head_dim (rotary embedding)", l.head_dim, l.head_dim);
  require(l.layers == e.layers, "language model and expert of the same depth", l.layers, e.layers);
  require(l.heads == e.heads, "language model and expert with the same attention heads", l.heads, e.heads);
  require(l.kv_heads == e.kv_heads, "language model and expert with the same key-value heads", l.kv_heads,
          e.kv_heads);
  require(l.head_dim == e.head_dim, "language model and expert with the same head_dim", l.head_dim,
          e.head_dim);
  require(e.width % 2 == 0 && e.width >= 4, "an even expert width of at least 4 (time embedding)", e.width,
          e.width);
  if (l.rope_theta != e.rope_theta) {
    fail("{}: expected language model and expert with the same rope_theta, found {} and {}", source,
         l.rope_theta, e.rope_theta);
  }
  if (!(c.min_period < c.max_period)) {
    fail("{}: expected min_period < max_period, found {} and {}", source, c.min_period, c.max_period);
  }
  auto names = c.cameras;
  std::sort(names.begin(), names.end());
  if (names.size() > 16 || std::adjacent_find(names.begin(), names.end()) != names.end()) {
    fail("{}: expected at most 16 cameras of different names, found {}", source, fmt::join(c.cameras, ", "));
  }
}

}  // namespace flashrt
