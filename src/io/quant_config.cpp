// Reading quantisation configurations; whatever would change the values and is not computed is refused.
#include "io/quant_config.h"

#include <algorithm>

#include "base/error.h"

namespace flashrt {

namespace {

using Method = QuantConfig::Method;

template <size_t N>
void expect_one_of(const JsonNode& node, const char* const (&allowed)[N]) {
  const std::string& found = node.text();
  if (std::ranges::find(allowed, found) == std::end(allowed)) {
    node.fail_expected(fmt::format("{}{}", N > 1 ? "one of " : "", fmt::join(allowed, ", ")));
  }
}

int64_t read_group(const JsonNode& node) {
  const int64_t group = node.integer_or("group_size", 128, -1, int64_t{1} << 24);
  if (group == 0) node.at("group_size").fail_expected("-1 or a positive number");
  return group;
}

void expect_four_bits(const JsonNode& node) {
  if (node.at("bits").integer(1, 32) != 4) node.at("bits").fail_expected("4");
}

QuantConfig read_gptq(const JsonNode& node) {
  expect_four_bits(node);
  const char* key = node.find("checkpoint_format") ? "checkpoint_format" : "format";
  if (const auto format = node.find(key)) {
    static constexpr const char* kFormats[] = {"gptq", "gptq_v2"};
    expect_one_of(*format, kFormats);
  }
  return {
      .method = Method::gptq, .group = read_group(node), .zero_plus = node.text_or(key, "gptq") == "gptq"};
}

QuantConfig read_awq(const JsonNode& node) {
  expect_four_bits(node);
  const char* key = node.find("version") ? "version" : "format";
  std::string version = node.text_or(key, "gemm");
  std::ranges::transform(version, version.begin(), [](char c) { return char(c | 0x20); });
  if (version != "gemm") node.at(key).fail_expected("gemm (the order of the weights)");
  if (!node.boolean_or("zero_point", true)) node.at("zero_point").fail_expected("true");
  return {.method = Method::awq, .group = read_group(node)};
}

// The tensors say of each matrix how it is stored; here stands what they do not say.
QuantConfig read_compressed_tensors(const JsonNode& node) {
  static constexpr const char* kFormats[] = {
      "float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "nvfp4-pack-quantized",
      "mixed-precision", "dense"};
  if (const auto format = node.find("format")) expect_one_of(*format, kFormats);
  if (const auto sparsity = node.find("sparsity_config")) {
    if (sparsity->text_or("format", "dense") != "dense") sparsity->at("format").fail_expected("dense");
  }
  if (const auto transform = node.find("transform_config")) {
    const auto groups = transform->find("config_groups");
    if (groups && !groups->members().empty()) groups->fail_expected("no transforms of activations");
  }
  QuantConfig config{.method = Method::compressed_tensors, .group = -1};
  if (const auto groups = node.find("config_groups")) {
    for (const auto& [name, group] : groups->members()) {
      if (const auto format = group.find("format")) expect_one_of(*format, kFormats);
      const auto weights = group.find("weights");
      if (!weights || weights->text_or("type", "int") != "int") continue;
      config.bits = weights->integer_or("num_bits", 8, 1, 32);
      if (!weights->find("group_size")) continue;
      const int64_t columns = read_group(*weights);
      if (config.group > 0 && columns != config.group) {
        weights->at("group_size").fail_expected(fmt::format("{}, as in the other groups", config.group));
      }
      config.group = columns;
    }
  }
  return config;
}

QuantConfig read_modelopt(const JsonNode& node) {
  static constexpr const char* kAlgorithms[] = {"NVFP4", "W4A16_NVFP4", "FP8", "FP8_PER_CHANNEL_PER_TOKEN"};
  expect_one_of(node.at("quant_algo"), kAlgorithms);
  const int64_t group = node.integer_or("group_size", 16, 0, 4096);
  if (node.at("quant_algo").text().ends_with("NVFP4") && group != 16)
    node.at("group_size").fail_expected("16");
  return {.method = Method::modelopt};
}

QuantConfig read_fp8(const JsonNode& node) {
  if (node.text_or("fmt", "e4m3") != "e4m3") node.at("fmt").fail_expected("e4m3");
  return {.method = Method::fp8_blocks};
}

}  // namespace

std::string_view name_of(Method method) {
  switch (method) {
    case Method::gptq: return "gptq";
    case Method::awq: return "awq";
    case Method::compressed_tensors: return "compressed-tensors";
    case Method::modelopt: return "modelopt";
    case Method::fp8_blocks: return "fp8";
    default: return "none";
  }
}

QuantConfig read_quant_config(const JsonNode& node) {
  const JsonNode method = node.at("quant_method");
  const std::string& name = method.text();
  if (name == "gptq") return read_gptq(node);
  if (name == "awq") return read_awq(node);
  if (name == "compressed-tensors" || name == "compressed_tensors") return read_compressed_tensors(node);
  if (name.starts_with("modelopt")) return read_modelopt(node);
  if (name == "fp8") return read_fp8(node);
  method.fail_expected("one of gptq, awq, compressed-tensors, modelopt, fp8");
}

QuantConfig read_hf_quant_config(const JsonNode& root) { return read_modelopt(root.at("quantization")); }

}  // namespace flashrt
