// Configurations of language models as their publishers wrote them, and what is refused.
#include "io/lm_config.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace flashrt {
namespace {

LmConfig read(const std::string& text) {
  const JsonDocument document(text, "config.json");
  return read_lm_config(document.root());
}
std::string sizes(const std::string& family, const std::string& more) {
  return R"({"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
             "vocab_size": 100, "model_type": ")" +
         family + "\"" + (more.empty() ? "" : ", ") + more + "}";
}
void expect_refused(const std::string& text, const std::vector<std::string>& words) {
  try {
    read(text);
    FAIL() << "accepted: " << text;
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    for (const std::string& word : words)
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
  }
}

TEST(LmConfig, Llama31) {
  const LmConfig c = read(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "eos_token_id":
    [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": false, "vocab_size": 128256})");
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.kv_heads, 8);
  EXPECT_EQ(c.end_tokens, (std::vector<int32_t>{128001, 128008, 128009}));
  EXPECT_EQ(c.rope.scaling, RopeScaling::llama3);
  EXPECT_EQ(c.rope.theta, 500000);
  EXPECT_EQ(c.rope.trained, 8192);
  EXPECT_FALSE(c.qkv_bias || c.out_bias || c.mlp_bias || c.qk_norm || c.norm_adds_one || c.gelu_gate ||
               c.tied);
}

TEST(LmConfig, FamiliesDiffer) {
  const LmConfig qwen2 = read(sizes("qwen2", ""));
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.out_bias);
  const LmConfig qwen3 = read(sizes("qwen3", ""));
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 128);
  const LmConfig gemma = read(sizes("gemma", R"("hidden_act": "gelu", "hidden_activation": null)"));
  EXPECT_TRUE(gemma.tied && gemma.norm_adds_one && gemma.gelu_gate);
  EXPECT_EQ(gemma.embedding_scale, 8);
  EXPECT_EQ(gemma.head_dim, 256);
  const LmConfig biased = read(sizes("llama", R"("attention_bias": true)"));
  EXPECT_TRUE(biased.qkv_bias && biased.out_bias);
}

TEST(LmConfig, Windows) {
  using Windows = std::vector<int64_t>;
  EXPECT_EQ(read(sizes("mistral", R"("sliding_window": 7)")).window, (Windows{7, 7, 7, 7}));
  EXPECT_EQ(read(sizes("mistral", R"("sliding_window": null)")).window, (Windows{0, 0, 0, 0}));
  EXPECT_EQ(read(sizes("llama", R"("sliding_window": 7)")).window, (Windows{0, 0, 0, 0}));
  const std::string qwen = R"("sliding_window": 7, "max_window_layers": 3)";
  EXPECT_EQ(read(sizes("qwen2", qwen + R"(, "use_sliding_window": false)")).window, (Windows{0, 0, 0, 0}));
  EXPECT_EQ(read(sizes("qwen2", qwen + R"(, "use_sliding_window": true)")).window, (Windows{0, 0, 0, 7}));
  EXPECT_EQ(read(sizes("qwen3", qwen + R"(, "use_sliding_window": true, "layer_types":
    ["sliding_attention", "full_attention", "full_attention", "sliding_attention"])"))
                .window,
            (Windows{7, 0, 0, 7}));
  expect_refused(sizes("qwen2", qwen + R"(, "use_sliding_window": true, "layer_types": ["full_attention"])"),
                 {"layer_types", "4 layers"});
}

TEST(LmConfig, YarnScalesCosineAndSine) {
  const RopeRule rule = read(sizes("qwen3", R"("max_position_embeddings": 40960, "rope_theta": 1000000,
      "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})"))
                            .rope;
  EXPECT_EQ(rule.scaling, RopeScaling::yarn);
  EXPECT_EQ(rule.theta, 1e6);
  EXPECT_EQ(rule.trained, 32768);
  EXPECT_NEAR(rule.attention_factor, 1.1386294361, 1e-9);  // 0.1 ln 4 + 1
}

TEST(LmConfig, RefusesWhatWouldBeComputedWrongly) {
  expect_refused(sizes("gpt_neox", ""), {"config.json", "model_type", "gpt_neox", "llama"});
  expect_refused(sizes("llama", R"("hidden_act": "relu")"), {"hidden_act", "relu"});
  expect_refused(sizes("llama", R"("num_key_value_heads": 3)"), {"num_key_value_heads", "divisor"});
  expect_refused(sizes("llama", R"("head_dim": 7)"), {"head_dim", "even", "7"});
  expect_refused(sizes("llama", R"("rope_scaling": {"rope_type": "dynamic", "factor": 2.0})"),
                 {"rope_type", "dynamic"});
  expect_refused(sizes("llama", R"("rope_scaling": {"rope_type": "linear"})"), {"factor"});
  expect_refused(sizes("llama", R"("rope_parameters": {"partial_rotary_factor": 0.5})"),
                 {"partial_rotary_factor"});
  expect_refused(sizes("llama", R"("eos_token_id": 100)"), {"eos_token_id", "100"});
  expect_refused(R"({"model_type": "llama"})", {"num_hidden_layers"});
}

TEST(LmConfig, Experts) {
  const LmConfig mixtral = read(sizes("mixtral", R"("num_local_experts": 8, "num_experts_per_tok": 2)"));
  EXPECT_EQ(mixtral.experts, 8);
  EXPECT_EQ(mixtral.mlp, 96);
  EXPECT_TRUE(mixtral.normalise_experts);
  const std::string qwen = R"("num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 24)";
  const LmConfig c = read(sizes("qwen3_moe", qwen + R"(, "norm_topk_prob": true)"));
  EXPECT_EQ(c.experts_used, 4);
  EXPECT_EQ(c.mlp, 24);
  EXPECT_TRUE(c.normalise_experts && c.qk_norm);
  EXPECT_EQ(lm_weight_specs(c).size(), 3u + 4u * (8 + 1 + 3 * 16));
  expect_refused(sizes("qwen3_moe", qwen + R"(, "mlp_only_layers": [0])"), {"mlp_only_layers"});
  expect_refused(sizes("qwen3_moe", qwen + R"(, "decoder_sparse_step": 2)"), {"decoder_sparse_step", "2"});
  expect_refused(sizes("mixtral", R"("num_local_experts": 2, "num_experts_per_tok": 3)"),
                 {"num_experts_per_tok"});
}

TEST(LmConfig, Gpt2) {
  const auto gpt2 = [](const std::string& more) {
    return R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 12, "n_head": 3, "n_positions": 16,
               "vocab_size": 50)" +
           more + "}";
  };
  const LmConfig c = read(gpt2(R"(, "n_inner": null, "eos_token_id": 49)"));
  EXPECT_EQ(c.mlp, 48);
  EXPECT_EQ(c.head_dim, 4);
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.norm_epsilon, 1e-5);
  EXPECT_TRUE(c.tied && c.learned_positions);
  EXPECT_EQ(lm_weight_specs(c).size(), 4u + 2u * 12);
  EXPECT_EQ(read(gpt2(R"(, "n_inner": 7)")).mlp, 7);
  expect_refused(gpt2(R"(, "activation_function": "relu")"), {"activation_function", "relu", "gelu_new"});
  expect_refused(gpt2(R"(, "scale_attn_by_inverse_layer_idx": true)"),
                 {"scale_attn_by_inverse_layer_idx", "false"});
  expect_refused(gpt2(R"(, "scale_attn_weights": false)"), {"scale_attn_weights", "true"});
  expect_refused(
      R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 10, "n_head": 3, "n_positions": 16,
          "vocab_size": 5})",
      {"n_head", "divisor of n_embd, 10"});
  expect_refused(R"({"model_type": "gpt2", "n_layer": "two"})", {"n_layer", "two"});
}

TEST(LmConfig, Generation) {
  const auto generation = [](const std::string& text) {
    const JsonDocument document(text, "generation_config.json");
    return read_lm_generation(document.root(), 100);
  };
  const LmGeneration plain = generation(R"({"eos_token_id": 7, "temperature": 0.6})");
  EXPECT_EQ(plain.temperature, 0) << "greedy unless it says do_sample";
  EXPECT_EQ(plain.end_tokens, std::vector<int32_t>{7});
  const LmGeneration sampled =
      generation(R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95})");
  EXPECT_EQ(sampled.temperature, 0.6);
  EXPECT_EQ(sampled.top_k, 20);
  EXPECT_EQ(sampled.top_p, 0.95);
}

}  // namespace
}  // namespace flashrt
