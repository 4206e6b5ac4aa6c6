// Sizes and switches of a decoder language model, as Hugging Face's config.json and generation_config.json
// say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/json.h"

namespace flashrt {

// How the rotation's frequencies are stretched beyond the trained context.
enum class RopeScaling { none, linear, llama3, yarn };

struct RopeRule {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;
  double low_frequency = 1, high_frequency = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;          // yarn
  double attention_factor = 1;                   // yarn: multiplies cosine and sine
  bool truncate = true;                          // yarn: whole numbers for the ramp's ends
  int64_t trained = 0;                           // positions before the stretch
};

struct LmConfig {
  std::string family;  // model_type
  int64_t layers = 0, width = 0, mlp = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  int64_t positions = 0;           // the context the model was made for
  bool learned_positions = false;  // positions are rows of a table; else rotary
  std::string prefix;              // before the tensors' names, where a family has one
  double norm_epsilon = 1e-6, embedding_scale = 1;
  RopeRule rope;
  std::vector<int64_t> window;  // per layer; 0: sees all
  bool tied = false;            // the output matrix is the embedding
  bool qkv_bias = false, out_bias = false, mlp_bias = false, qk_norm = false;
  bool norm_adds_one = false;             // norm weights are stored around 0
  bool gelu_gate = false;                 // else silu
  int64_t experts = 0, experts_used = 0;  // 0: one dense MLP; else `mlp` is the width of each expert
  bool normalise_experts = true;          // the used experts' probabilities sum to 1
  std::vector<int32_t> end_tokens;
};

// Throws Error(input) naming the file and field; families and options that would be computed wrongly are
// refused.
LmConfig read_lm_config(const JsonNode& config);

struct LmWeightSpec {
  std::string name;
  std::vector<int64_t> shape;
  bool transposed = false;  // stored [in, out]
};
// The tensors that inference reads, by their stored names.
std::vector<LmWeightSpec> lm_weight_specs(const LmConfig& config);

// Stored names of the experts' matrices in a layer, below "model.layers.N.".
struct LmExpertNames {
  std::string router, stem;  // "mlp.gate", "mlp.experts"
  std::string gate, up, down;
};
LmExpertNames lm_expert_names(const LmConfig& config);

// A token, or a list of them, under a key that may be absent.
std::vector<int32_t> read_lm_tokens(const JsonNode& config, std::string_view key, int64_t vocab);

// What generation_config.json recommends.
struct LmGeneration {
  std::vector<int32_t> end_tokens;
  double temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;  // temperature 0: greedy
  int64_t top_k = 0;
};
LmGeneration read_lm_generation(const JsonNode& generation, int64_t vocab);

}  // namespace flashrt
