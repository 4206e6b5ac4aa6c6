// Random checkpoints: config.json, model.safetensors, processors and statistics as LeRobot lays them out.
#include "io/policy_synth.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/threads.h"
#include "io/json.h"
#include "io/policy_weights.h"

namespace flashrt {

namespace {

namespace fs = std::filesystem;

// Counter-based: value i of stream s is a hash of both, so threads and machines agree.
uint64_t hash(uint64_t stream, uint64_t i) {  // splitmix64 (Steele, Lea, Flood 2014)
  uint64_t z = stream + (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Nearly N(0, 1): the sum of four 16-bit uniforms, scaled (variance of the sum: 4 (2^32 − 1) / 12).
float normal(uint64_t bits) {
  const int64_t sum = int64_t((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
  return float(double(sum - 2 * 65535) / 37837.2);
}

struct Distribution {
  float mean = 0, deviation = 0;
  int64_t shifted_from = INT64_MAX;  // elements from here on have mean + 1 (the gate of an adaRMS bias)
};

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> endings) {
  for (const std::string_view ending : endings) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

Distribution distribution_of(const WeightSpec& spec) {
  const std::string_view name = spec.name;
  if (name.ends_with("dense.weight")) return {0, float(0.3 / std::sqrt(double(spec.shape[1])))};
  if (name.ends_with("dense.bias")) return {0, 0.1f, spec.shape[0] / 3 * 2};
  if (ends_with_any(name, {"embed_tokens.weight", "position_embedding.weight"})) return {0, 0.02f};
  if (ends_with_any(name, {"layer_norm1.weight", "layer_norm2.weight", "post_layernorm.weight"}))
    return {1, 0.1f};
  if (ends_with_any(name, {"layernorm.weight", ".norm.weight"}))
    return {0, 0.1f};  // RMSNorm multiplies by 1 + w
  if (spec.shape.size() == 1) return {0, 0.02f};
  int64_t fan_in = 1;
  for (size_t i = 1; i < spec.shape.size(); ++i) fan_in *= spec.shape[i];
  return {0, float(1 / std::sqrt(double(fan_in)))};
}

void fill(std::span<std::byte> bytes, DType dtype, const Distribution& d, uint64_t stream) {
  const auto count = int64_t(bytes.size() / size_of(dtype));
  parallel_for(count, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float mean = i >= d.shifted_from ? d.mean + 1 : d.mean;
      store_float(bytes.data(), dtype, size_t(i), mean + d.deviation * normal(hash(stream, uint64_t(i))));
    }
  });
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) fail("{}: cannot write", path.string());
}

void write_weights(const fs::path& path, const PolicyConfig& config, const SynthOptions& options) {
  const auto weights = policy_weights(config);
  std::vector<TensorSpec> specs;
  for (const WeightSpec& weight : weights) {
    specs.push_back({lerobot_weight_name(weight.name), options.dtype, weight.shape});
  }
  SafetensorsWriter writer(path.string(), std::move(specs), {{"format", "pt"}});
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < weights.size(); ++i) {
    size_t size = size_of(options.dtype);
    for (const int64_t dim : weights[i].shape) size *= size_t(dim);
    bytes.resize(size);
    fill(bytes, options.dtype, distribution_of(weights[i]), hash(options.seed, i));
    writer.append(bytes);
  }
  writer.finish();
}

std::string_view mode_text(NormMode mode) {
  switch (mode) {
    case NormMode::identity: return "IDENTITY";
    case NormMode::zscore: return "MEAN_STD";
    case NormMode::quantile: return "QUANTILES";
    case NormMode::quantile10: return "QUANTILE10";
    case NormMode::minmax: return "MIN_MAX";
  }
  return "";
}

std::string norm_map(const PolicyConfig& c) {
  return fmt::format(R"({{"VISUAL": "IDENTITY", "STATE": "{}", "ACTION": "{}"}})", mode_text(c.state_mode),
                     mode_text(c.action_mode));
}

std::string decoder_json(const DecoderDims& d, std::string_view more) {
  return fmt::format(
      R"({{"model_type": "gemma", "hidden_size": {}, "num_hidden_layers": {}, "intermediate_size": {},
    "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {}, "rms_norm_eps": {}, "rope_theta": {}{}}})",
      d.width, d.layers, d.mlp, d.heads, d.kv_heads, d.head_dim, d.norm_epsilon, d.rope_theta, more);
}

std::string features_json(const PolicyConfig& c, int64_t state_dim) {
  std::string features;
  for (const std::string& camera : c.cameras) {
    features +=
        fmt::format(R"(
    {}: {{"type": "VISUAL", "shape": [3, {}, {}]}},)",
                    json_quote("observation.images." + camera), c.vision.image_size, c.vision.image_size);
  }
  return fmt::format(R"({{{}
    "observation.state": {{"type": "STATE", "shape": [{}]}}
  }})",
                     features, state_dim);
}

std::string config_json(const PolicyConfig& c, const SynthOptions& options, int64_t state_dim,
                        int64_t action_dim) {
  const VisionDims& v = c.vision;
  return fmt::format(
      R"({{
  "type": "{}",
  "input_features": {},
  "output_features": {{"action": {{"type": "ACTION", "shape": [{}]}}}},
  "chunk_size": {}, "n_action_steps": {},
  "max_state_dim": {}, "max_action_dim": {},
  "num_inference_steps": {}, "min_period": {}, "max_period": {},
  "image_resolution": [{}, {}], "empty_cameras": 0, "tokenizer_max_length": {},
  "dtype": "{}",
  "normalization_mapping": {},
  "vlm_config": {{"model_type": "paligemma", "projection_dim": {},
   "text_config": {},
   "vision_config": {{"model_type": "siglip_vision_model", "hidden_size": {}, "num_hidden_layers": {},
    "intermediate_size": {}, "num_attention_heads": {}, "image_size": {}, "patch_size": {}, "layer_norm_eps": {}}}}},
  "dit_config": {}
}}
)",
      name_of(c.family), features_json(c, state_dim), action_dim, c.horizon, c.horizon, c.state_dim,
      c.action_dim, c.steps, c.min_period, c.max_period, v.image_size, v.image_size, c.max_prompt_tokens,
      options.dtype == DType::f32   ? "float32"
      : options.dtype == DType::f16 ? "float16"
                                    : "bfloat16",
      norm_map(c), c.language.width, decoder_json(c.language, fmt::format(R"(, "vocab_size": {})", c.vocab)),
      v.width, v.layers, v.mlp, v.heads, v.image_size, v.patch, v.norm_epsilon, decoder_json(c.expert, ""));
}

// Plausible statistics: low < mean < high, all consistent.
void write_statistics(const fs::path& path, uint64_t seed,
                      std::initializer_list<std::pair<const char*, int64_t>> keys) {
  std::vector<TensorSpec> specs;
  std::vector<std::vector<float>> values;
  for (const auto& [key, dims] : keys) {
    const auto count = size_t(dims);
    std::vector<float> mean(count), std(count);
    fill(std::as_writable_bytes(std::span(mean)), DType::f32, {0, 0.5f}, hash(seed, values.size()));
    fill(std::as_writable_bytes(std::span(std)), DType::f32, {1, 0.2f}, hash(seed, values.size() + 1));
    for (float& value : std) value = std::max(value, 0.1f);
    const std::pair<const char*, float> quantiles[] = {
        {"mean", 0}, {"q01", -2.3f}, {"q99", 2.3f}, {"q10", -1.3f}, {"q90", 1.3f}, {"min", -3}, {"max", 3}};
    for (const auto& [name, factor] : quantiles) {
      std::vector<float> quantile = mean;
      for (size_t i = 0; i < quantile.size(); ++i) quantile[i] += factor * std[i];
      specs.push_back({fmt::format("{}.{}", key, name), DType::f32, {dims}});
      values.push_back(std::move(quantile));
    }
    specs.push_back({fmt::format("{}.std", key), DType::f32, {dims}});
    values.push_back(std::move(std));
  }
  SafetensorsWriter writer(path.string(), std::move(specs));
  for (const auto& value : values) writer.append(std::as_bytes(std::span(value)));
  writer.finish();
}

void write_processors(const fs::path& folder, const PolicyConfig& c, uint64_t seed, int64_t state_dim,
                      int64_t action_dim) {
  constexpr const char* kPre = "policy_preprocessor_step_2_normalizer_processor.safetensors";
  constexpr const char* kPost = "policy_postprocessor_step_0_unnormalizer_processor.safetensors";
  write_text(folder / "policy_preprocessor.json",
             fmt::format(R"({{"name": "policy_preprocessor", "steps": [
  {{"registry_name": "rename_observations_processor", "config": {{"rename_map": {{}}}}}},
  {{"registry_name": "to_batch_processor", "config": {{}}}},
  {{"registry_name": "normalizer_processor", "config": {{"eps": 1e-08, "norm_map": {}}}, "state_file": "{}"}},
  {{"registry_name": "{}", "config": {{}}}},
  {{"registry_name": "tokenizer_processor", "config": {{"max_length": {}, "padding_side": "right"}}}},
  {{"registry_name": "device_processor", "config": {{}}}}
]}}
)",
                         norm_map(c), kPre,
                         c.family == PolicyFamily::pi05 ? "pi05_prepare_state_tokenizer_processor_step"
                                                        : "pi0_new_line_processor",
                         c.max_prompt_tokens));
  write_text(folder / "policy_postprocessor.json", fmt::format(R"({{"name": "policy_postprocessor", "steps": [
  {{"registry_name": "unnormalizer_processor", "config": {{"eps": 1e-08, "norm_map": {}}}, "state_file": "{}"}},
  {{"registry_name": "device_processor", "config": {{}}}}
]}}
)",
                                                               norm_map(c), kPost));
  write_statistics(folder / kPre, seed, {{"observation.state", state_dim}, {"action", action_dim}});
  write_statistics(folder / kPost, seed, {{"observation.state", state_dim}, {"action", action_dim}});
}

}  // namespace

void synthesize_policy(const std::string& directory, const PolicyConfig& config,
                       const SynthOptions& options) {
  check_policy_config(config, directory);
  if (options.dtype != DType::f32 && options.dtype != DType::bf16 && options.dtype != DType::f16) {
    fail("{}: weights of type {}: expected f32, bf16 or f16", directory, name_of(options.dtype));
  }
  const fs::path folder = directory;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot create: {}", directory, error.message());
  const int64_t state_dim = config.robot_state_dim > 0 ? config.robot_state_dim : config.state_dim;
  const int64_t action_dim = config.robot_action_dim > 0 ? config.robot_action_dim : config.action_dim;
  if (!options.tokenizer.empty()) {
    const bool json = options.tokenizer.ends_with(".json");
    fs::copy_file(options.tokenizer, folder / (json ? "tokenizer.json" : "tokenizer.model"),
                  fs::copy_options::overwrite_existing, error);
    if (error) fail("{}: cannot copy to {}: {}", options.tokenizer, directory, error.message());
  }
  write_text(folder / "config.json", config_json(config, options, state_dim, action_dim));
  write_processors(folder, config, hash(options.seed, ~uint64_t{0}), state_dim, action_dim);
  write_weights(folder / "model.safetensors", config, options);
}

}  // namespace flashrt
