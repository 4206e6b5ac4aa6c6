// A tiny random language model to run the executable with.
#pragma once

#include "base/philox.h"
#include "io/lm_config.h"
#include "io/safetensors.h"
#include "tests/apps/command_line.h"

namespace flashrt {

inline nlohmann::json tiny_lm_config() {
  return {{"architectures", {"Qwen2ForCausalLM"}},
          {"model_type", "qwen2"},
          {"num_hidden_layers", 1},
          {"hidden_size", 16},
          {"intermediate_size", 24},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"vocab_size", 704},
          {"max_position_embeddings", 96},
          {"tie_word_embeddings", true},
          {"eos_token_id", 700}};
}

// A directory with this config.json, random weights of `sizes`, the tokenizer of the tests, a template.
inline std::string make_tiny_lm(const std::string& name, const nlohmann::json& config = tiny_lm_config(),
                                const nlohmann::json& sizes = tiny_lm_config()) {
  const fs::path path = scratch() / name;
  if (fs::exists(path)) return path;
  fs::create_directories(path);
  spill(path / "config.json", config.dump());
  fs::copy_file(FLASHRT_TEST_DATA "/tokenizer/byte_qwen.json", path / "tokenizer.json");
  const nlohmann::json tokenizer{
      {"eos_token", "<|im_end|>"},
      {"chat_template",
       "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
       "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"}};
  spill(path / "tokenizer_config.json", tokenizer.dump());
  const JsonDocument document(sizes.dump(), "config");
  std::vector<std::vector<float>> values;
  std::vector<TensorView> tensors;
  for (const LmWeightSpec& spec : lm_weight_specs(read_lm_config(document.root()))) {
    size_t size = 1;
    for (int64_t n : spec.shape) size *= size_t(n);
    philox_normal(values.size(), values.emplace_back(size));
    if (spec.shape.size() == 2) {
      for (float& v : values.back()) v *= 0.3f;
    }
    tensors.push_back({spec.name, DType::f32, spec.shape, std::as_bytes(std::span(values.back()))});
  }
  write_safetensors((path / "model.safetensors").string(), tensors);
  return path;
}

inline Ran run_with_stdin(const std::vector<std::string>& arguments, const std::string& text) {
  const fs::path input = scratch() / "stdin";
  spill(input, text);
  return flashrt_run(arguments, input);
}

}  // namespace flashrt
