// config.json: defaults of the variants, overrides, and every number that cannot be.
#include "io/policy_config.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace flashrt {
namespace {

PolicyConfig read(std::string_view text, bool adaptive = false) {
  const JsonDocument document(text, "config.json");
  return read_policy_config(document.root(), adaptive);
}

std::string error_of(std::string_view text) {
  try {
    read(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    return error.what();
  }
  return "no error";
}

TEST(PolicyConfig, DefaultsOfLeRobot) {
  const PolicyConfig pi0 = read(R"({"type": "pi0"})");
  EXPECT_EQ(pi0.vision.width, 1152);
  EXPECT_EQ(pi0.vision.tokens(), 256);
  EXPECT_EQ(pi0.language.mlp, 16384);
  EXPECT_EQ(pi0.expert.width, 1024);
  EXPECT_EQ(pi0.expert.head_dim, 256);
  EXPECT_EQ(pi0.horizon, 50);
  EXPECT_EQ(pi0.max_prompt_tokens, 48);
  EXPECT_EQ(pi0.state_mode, NormMode::zscore);
  EXPECT_FALSE(pi0.state_in_prompt);
  EXPECT_FLOAT_EQ(float(pi0.embedding_scale), 45.254834f);
  const PolicyConfig pi05 = read(R"({"type": "pi05", "dtype": "bfloat16"})");
  EXPECT_EQ(pi05.family, PolicyFamily::pi05);
  EXPECT_EQ(pi05.max_prompt_tokens, 200);
  EXPECT_EQ(pi05.action_mode, NormMode::quantile);
  EXPECT_TRUE(pi05.state_in_prompt);
  EXPECT_EQ(pi05.embedding_scale, 45.25);  // rounded to bf16
  EXPECT_EQ(pi05.time_precision, DType::f64);
}

TEST(PolicyConfig, DefaultsOfOpenpi) {
  const PolicyConfig c = read(R"({"action_dim": 32, "action_horizon": 15, "paligemma_variant": "gemma_2b",
    "action_expert_variant": "gemma_300m", "precision": "bfloat16"})",
                              true);
  EXPECT_EQ(c.family, PolicyFamily::pi05);
  EXPECT_EQ(c.horizon, 15);
  EXPECT_EQ(c.steps, 10);
  EXPECT_EQ(c.cameras, (std::vector<std::string>{"base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"}));
  EXPECT_FLOAT_EQ(float(c.embedding_scale), 45.254834f);  // exact in any precision
  EXPECT_EQ(c.prompt, PromptRule::openpi);
}

TEST(PolicyConfig, DefaultsOfTransformers) {
  const PolicyConfig c = read(R"({"model_type": "pi0"})");
  EXPECT_EQ(c.language.width, 2048);
  EXPECT_EQ(c.expert.mlp, 4096);
  EXPECT_EQ(c.vision.mlp, 4304);
  // a sub-config that is there takes its class's defaults where it is silent
  EXPECT_NE(error_of(R"({"model_type": "pi0", "dit_config": {}})").find("found 18 and 28"),
            std::string::npos);
}

TEST(PolicyConfig, SubConfigsOverrideTheVariants) {
  const PolicyConfig c =
      read(R"({"type": "pi05", "paligemma_variant": "dummy", "action_expert_variant": "dummy",
    "vlm_config": {"text_config": {"hidden_size": 96, "vocab_size": 300, "rope_theta": 5000},
                   "vision_config": {"num_hidden_layers": 3, "image_size": 56}},
    "expert_config": {"intermediate_size": 40, "rope_theta": 5000.0}})");
  EXPECT_EQ(c.language.width, 96);
  EXPECT_EQ(c.language.head_dim, 16);  // dummy
  EXPECT_EQ(c.language.rope_theta, 5000);
  EXPECT_EQ(c.expert.mlp, 40);
  EXPECT_EQ(c.expert.width, 64);
  EXPECT_EQ(c.vocab, 300);
  EXPECT_EQ(c.vision.layers, 3);
  EXPECT_EQ(c.vision.tokens(), 16);
}

TEST(PolicyConfig, CamerasInTheOrderOfTheFile) {
  const PolicyConfig c = read(R"({"type": "pi0", "input_features": {
    "observation.images.zed": {"type": "VISUAL", "shape": [3, 224, 224]},
    "observation.state": {"type": "STATE", "shape": [14]},
    "observation.images.arm": {"type": "VISUAL", "shape": [3, 224, 224]},
    "observation.image": {"type": "VISUAL", "shape": [3, 224, 224]},
    "observation.images.empty_camera_0": {"type": "VISUAL", "shape": [3, 224, 224]}},
    "output_features": {"action": {"type": "ACTION", "shape": [14]}}})");
  EXPECT_EQ(c.cameras, (std::vector<std::string>{"zed", "arm", "observation.image"}));
  EXPECT_EQ(c.robot_state_dim, 14);
  EXPECT_EQ(c.robot_action_dim, 14);
}

TEST(PolicyConfig, RefusesWhatCannotBe) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "config.json: the document: expected an object"},
      {"{}", "expected the configuration of a policy"},
      {R"({"type": "act"})", "/type: expected the policy type \"pi0\" or \"pi05\", found \"act\""},
      {R"({"model_type": "llama"})", "/model_type: expected the model type \"pi0\", found \"llama\""},
      {R"({"type": "pi0", "chunk_size": 0})", "/chunk_size: expected an integer from 1 to 4096, found 0"},
      {R"({"type": "pi0", "chunk_size": 5000})", "/chunk_size: expected"},
      {R"({"type": "pi0", "chunk_size": 50.0})", "/chunk_size: expected an integer"},
      {R"({"type": "pi0", "chunk_size": "50"})",
       "/chunk_size: expected an integer from 1 to 4096, found \"50\""},
      {R"({"type": "pi0", "n_action_steps": 51})", "/n_action_steps: expected an integer from 1 to 50"},
      {R"({"type": "pi0", "max_action_dim": 1025})", "/max_action_dim: expected"},
      {R"({"type": "pi0", "num_inference_steps": 0})", "/num_inference_steps: expected"},
      {R"({"type": "pi0", "min_period": 0})", "/min_period: expected a number"},
      {R"({"type": "pi0", "min_period": 5})", "expected min_period < max_period, found 5 and 4"},
      {R"({"type": "pi0", "dtype": "int8"})", "/dtype: expected \"float32\""},
      {R"({"type": "pi0", "paligemma_variant": "gemma_2b_lora"})", "merge the adapters first"},
      {R"({"type": "pi0", "paligemma_variant": "dummy"})", "of the same depth, found 4 and 18"},
      {R"({"type": "pi0", "image_resolution": [224, 256]})",
       "/image_resolution/1: expected an integer from 224 to 224"},
      {R"({"type": "pi0", "image_resolution": [224]})", "/image_resolution: expected [height, width]"},
      {R"({"type": "pi0", "normalization_mapping": {"STATE": "Z"}})",
       "/normalization_mapping/STATE: expected IDENTITY"},
      {R"({"type": "pi0", "normalization_mapping": {"VISUAL": "MEAN_STD"}})", "images are scaled to [-1, 1]"},
      {R"({"type": "pi0", "use_proprioceptive_memory": true})", "policies with memory are not supported"},
      {R"({"type": "pi0", "input_features": {"observation.state": {"type": "STATE", "shape": [33]}}})",
       "/input_features/observation.state/shape/0: expected an integer from 1 to 32, found 33"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"num_hidden_layers": 1025}}})",
       "from 1 to 1024, found 1025"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"hidden_size": 65537}}})", "from 1 to 65536"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"vocab_size": 1000001}}})", "from 1 to 1000000"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"head_dim": 255}}})", "an even head_dim"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"rope_theta": 0}}})",
       "/rope_theta: expected a number"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"hidden_act": "relu"}}})",
       "expected \"gelu_pytorch_tanh\""},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"attention_bias": true}}})", "expected false"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"num_key_value_heads": 3}}})",
       "multiple of the key-value"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"num_attention_heads": 16}}})",
       "same attention heads"},
      {R"({"type": "pi0", "vlm_config": {"text_config": {"rope_parameters": {"rope_type": "yarn"}}}})",
       "\"default\""},
      {R"({"type": "pi0", "vlm_config": {"vision_config": {"num_attention_heads": 7}}})",
       "that its heads divide"},
      {R"({"type": "pi0", "vlm_config": {"vision_config": {"patch_size": 225}}})", "no smaller than a patch"},
      {R"({"type": "pi0", "vlm_config": {"projection_dim": 1024}})", "from 2048 to 2048, found 1024"},
      {R"({"type": "pi0", "dit_config": {"hidden_size": 1023}})", "an even expert width"},
      {R"({"type": "pi0", "dit_config": {"rope_theta": 5}})", "the same rope_theta, found 10000 and 5"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_NE(error_of(text).find(message), std::string::npos) << text << "\n  " << error_of(text);
  }
}

}  // namespace
}  // namespace flashrt
