// Reading GPT-2's configuration; what would be computed otherwise is refused.
#include "io/gpt2_config.h"

#include "base/error.h"

namespace flashrt {

namespace {

// Switches that change the equations, with the values that are GPT-2's.
void require_plain(const JsonNode& config) {
  const std::string activation = config.text_or("activation_function", "gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh") {
    config.at("activation_function").fail_expected("gelu_new or gelu_pytorch_tanh");
  }
  if (!config.boolean_or("scale_attn_weights", true)) config.at("scale_attn_weights").fail_expected("true");
  if (const auto quantised = config.find("quantization_config")) {
    quantised->fail_expected("none: a GPT-2 in bf16, f16 or f32");
  }
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}) {
    if (config.boolean_or(key, false)) config.at(key).fail_expected("false");
  }
}

}  // namespace

LmConfig read_gpt2_config(const JsonNode& config) {
  constexpr int64_t kMost = int64_t{1} << 24;
  require_plain(config);
  LmConfig c;
  c.family = "gpt2";
  c.layers = config.at("n_layer").integer(1, 4096);
  c.width = config.at("n_embd").integer(1, kMost);
  c.heads = c.kv_heads = config.at("n_head").integer(1, 65536);
  if (c.width % c.heads != 0)
    config.at("n_head").fail_expected(fmt::format("a divisor of n_embd, {}", c.width));
  c.head_dim = c.width / c.heads;
  c.mlp = config.integer_or("n_inner", 4 * c.width, 1, 4 * kMost);
  c.vocab = config.at("vocab_size").integer(1, kMost);
  c.positions = config.at("n_positions").integer(1, kMost);
  c.norm_epsilon = config.number_or("layer_norm_epsilon", 1e-5, 1e-12, 1);
  c.tied = config.boolean_or("tie_word_embeddings", true);
  c.window.assign(size_t(c.layers), 0);
  c.end_tokens = read_lm_tokens(config, "eos_token_id", c.vocab);
  c.learned_positions = true;
  c.prefix = "transformer.";
  return c;
}

// Conv1D stores its matrices [in, out].
std::vector<LmWeightSpec> gpt2_weight_specs(const LmConfig& c) {
  const int64_t n = c.width;
  std::vector<LmWeightSpec> specs{{c.prefix + "wte.weight", {c.vocab, n}},
                                  {c.prefix + "wpe.weight", {c.positions, n}},
                                  {c.prefix + "ln_f.weight", {n}},
                                  {c.prefix + "ln_f.bias", {n}}};
  if (!c.tied) specs.push_back({"lm_head.weight", {c.vocab, n}});
  for (int64_t i = 0; i < c.layers; ++i) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      const std::string stem = fmt::format("{}h.{}.{}", c.prefix, i, name);
      specs.push_back({stem + ".bias", {shape.back()}});
      const bool transposed = shape.size() == 2;
      specs.push_back({stem + ".weight", std::move(shape), transposed});
    };
    add("ln_1", {n});
    add("attn.c_attn", {n, 3 * n});
    add("attn.c_proj", {n, n});
    add("ln_2", {n});
    add("mlp.c_fc", {n, c.mlp});
    add("mlp.c_proj", {c.mlp, n});
  }
  return specs;
}

}  // namespace flashrt
