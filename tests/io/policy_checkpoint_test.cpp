// Checkpoint directories of every layout, made from one synthetic policy, and one broken directory per rule.
#include "io/policy_checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "io/policy_synth.h"
#include "io/policy_weights.h"

namespace flashrt {
namespace {

namespace fs = std::filesystem;

PolicyConfig tiny(PolicyFamily family) {
  PolicyConfig c;
  c.family = family;
  c.vision = {.width = 12, .layers = 2, .mlp = 20, .heads = 3, .image_size = 28, .patch = 14};
  c.language = {.width = 16, .layers = 3, .mlp = 24, .heads = 4, .kv_heads = 2, .head_dim = 6};
  c.expert = {.width = 8, .layers = 3, .mlp = 12, .heads = 4, .kv_heads = 2, .head_dim = 6};
  c.vocab = 40;
  c.action_dim = c.state_dim = 9;
  c.robot_action_dim = 7;
  c.robot_state_dim = 8;
  c.horizon = 5;
  c.steps = 4;
  c.max_prompt_tokens = 30;
  c.cameras = {"front", "wrist"};
  c.state_mode = c.action_mode = family == PolicyFamily::pi05 ? NormMode::quantile : NormMode::zscore;
  return c;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, text.npos) << from;
  text.replace(at, from.size(), to);
}

class PolicyDirectory : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::path(testing::TempDir()) / fmt::format("flashrt_policy_{}", getpid());
    fs::remove_all(path_);
  }
  void TearDown() override { fs::remove_all(path_); }

  void synthesize(PolicyFamily family, const SynthOptions& options = {.seed = 7}) {
    synthesize_policy(path_.string(), tiny(family), options);
  }
  PolicyCheckpoint load(const CheckpointOptions& options = {}) const {
    return load_policy_checkpoint(path_.string(), options);
  }
  std::string error(const CheckpointOptions& options = {}) const {
    try {
      load(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      return error.what();
    }
    return "no error";
  }
  bool fails_with(std::string_view part, const CheckpointOptions& options = {}) const {
    const std::string message = error(options);
    if (message.find(part) != message.npos) return true;
    ADD_FAILURE() << "expected …" << part << "…\n   found " << message;
    return false;
  }

  // Rewrites model.safetensors; `rename` returns the new name, or "" to drop the tensor.
  void rename_tensors(const std::function<std::string(const std::string&)>& rename) {
    edit_tensors([&](std::vector<TensorView>& tensors) {
      std::vector<TensorView> kept;
      for (TensorView& tensor : tensors) {
        tensor.name = rename(tensor.name);
        if (!tensor.name.empty()) kept.push_back(tensor);
      }
      tensors = kept;
    });
  }
  void edit_tensors(const std::function<void(std::vector<TensorView>&)>& edit) {
    const std::string file = (path_ / "model.safetensors").string();
    const SafetensorsFile model(file);
    std::vector<TensorView> tensors = model.tensors();
    edit(tensors);
    write_safetensors(file, tensors);
  }
  void edit_config(std::string_view from, std::string_view to) { edit(path_ / "config.json", from, to); }
  static void edit(const fs::path& path, std::string_view from, std::string_view to) {
    std::string text = read_file(path);
    replace(text, from, to);
    write_file(path, text);
  }
  // The values of all weights by canonical name: every layout must give the same.
  std::map<std::string, std::string> values() const {
    std::map<std::string, std::string> result;
    const PolicyCheckpoint checkpoint = load();
    for (const auto& [name, tensor] : checkpoint.weights) {
      result[name].assign(reinterpret_cast<const char*>(tensor->bytes.data()), tensor->bytes.size());
    }
    return result;
  }
  void make_openpi(PolicyFamily family) {
    synthesize(family);
    rename_tensors([](const std::string& name) { return name.substr(6); });  // no "model."
    write_file(path_ / "config.json", R"({"action_dim": 9, "action_horizon": 5, "precision": "float32",
      "max_token_len": 30, "vlm_config": {"vocab_size": 40,
        "text_config": {"hidden_size": 16, "num_hidden_layers": 3, "intermediate_size": 24, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 6},
        "vision_config": {"hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 20, "num_attention_heads": 3,
          "image_size": 28, "patch_size": 14}},
      "expert_config": {"hidden_size": 8, "num_hidden_layers": 3, "intermediate_size": 12, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 6}})");
  }
  void write_norm_stats(const std::string& asset, const std::string& state) {
    write_file(path_ / "assets" / asset / "norm_stats.json",
               R"({"norm_stats": {"state": )" + state +
                   R"(, "actions": {"mean": [0, 1], "std": [1, 2], "q01": [-1, 0], "q99": [1, 4]}}})");
  }

  fs::path path_;
};

TEST_F(PolicyDirectory, LeRobotRoundTrip) {
  for (const PolicyFamily family : {PolicyFamily::pi0, PolicyFamily::pi05}) {
    synthesize(family);
    const PolicyCheckpoint checkpoint = load();
    const PolicyConfig &c = checkpoint.config, expected = tiny(family);
    EXPECT_EQ(c.family, family);
    EXPECT_EQ(c.layout, PolicyLayout::lerobot);
    EXPECT_EQ(c.vision.width, 12);
    EXPECT_EQ(c.vision.tokens(), 4);
    EXPECT_EQ(c.language.kv_heads, 2);
    EXPECT_EQ(c.expert.mlp, 12);
    EXPECT_EQ(c.vocab, 40);
    EXPECT_EQ(c.horizon, 5);
    EXPECT_EQ(c.steps, 4);
    EXPECT_EQ(c.max_prompt_tokens, 30);
    EXPECT_EQ(c.cameras, expected.cameras);
    EXPECT_EQ(c.robot_state_dim, 8);
    EXPECT_EQ(c.robot_action_dim, 7);
    EXPECT_EQ(c.embedding_scale, 4);
    EXPECT_EQ(c.time_grid, TimeGrid::multiplied_f64);
    EXPECT_EQ(c.state_in_prompt, family == PolicyFamily::pi05);
    EXPECT_EQ(c.state.mode, expected.state_mode);
    EXPECT_EQ(c.state.first.size(), 8u);
    EXPECT_EQ(c.action.first.size(), 7u);
    EXPECT_EQ(c.action.dialect, NormDialect::lerobot);
    EXPECT_EQ(checkpoint.weights.size(), policy_weights(c).size());
    EXPECT_TRUE(checkpoint.unknown.empty() && checkpoint.unused.empty() && checkpoint.warnings.empty());
    EXPECT_TRUE(checkpoint.tokenizer.empty());
    EXPECT_NE(checkpoint.find("language_model.embed_tokens.weight"), nullptr);
    EXPECT_NE(checkpoint.origin(*checkpoint.find("action_in_proj.bias"))
                  .find("model.safetensors: model.action_in_proj"),
              std::string::npos);
  }
}

TEST_F(PolicyDirectory, SynthesisDependsOnTheSeedAlone) {
  synthesize(PolicyFamily::pi05, {.seed = 1});
  const auto first = values();
  synthesize(PolicyFamily::pi05, {.seed = 1});
  EXPECT_EQ(values(), first);
  synthesize(PolicyFamily::pi05, {.seed = 2});
  for (const auto& [name, bytes] : values())
    EXPECT_NE(bytes, first.at(name)) << name;  // every tensor is random
  synthesize(PolicyFamily::pi05, {.seed = 1, .dtype = DType::bf16});
  const PolicyCheckpoint half = load();
  EXPECT_EQ(half.find("expert.norm.dense.weight")->dtype, DType::bf16);
  EXPECT_EQ(half.config.source_dtype, DType::bf16);
}

TEST_F(PolicyDirectory, AcceptsBothPrefixesAndBothVisionKeyStyles) {
  synthesize(PolicyFamily::pi0);
  const auto expected = values();
  rename_tensors([](const std::string& name) { return name.substr(6); });
  EXPECT_EQ(values(), expected);
  rename_tensors([](std::string name) {
    const size_t at = name.find("vision_tower.");
    return at == name.npos ? name : name.insert(at + 13, "vision_model.");
  });
  EXPECT_EQ(values(), expected);
  // transformers before 4.52 nests the language model the other way round
  rename_tensors([](std::string name) {
    const std::string old = "paligemma_with_expert.paligemma.";
    if (name == old + "lm_head.weight") return old + "language_model.lm_head.weight";
    if (name.starts_with(old + "model.language_model."))
      return old + "language_model.model." + name.substr(53);
    if (name.starts_with(old + "model.")) return old + name.substr(38);
    return name;
  });
  EXPECT_EQ(values(), expected);
}

TEST_F(PolicyDirectory, TransformersLayout) {
  synthesize(PolicyFamily::pi0);
  const auto expected = values();
  rename_tensors([](const std::string& stored) -> std::string {
    const std::string name = canonical_weight_name(stored, PolicyFamily::pi0)->canonical;
    if (name.starts_with("expert.")) return "model.dit." + name.substr(7);
    if (name.starts_with("action_out_proj.")) return name;
    if (name.starts_with("action_") || name.starts_with("state_")) return "embed_action_time." + name;
    return "model.vlm." + name;
  });
  // head_dim 256 and image_size 224 are the classes' defaults; transformers leaves nothing else out
  write_file(path_ / "config.json", R"({"model_type": "pi0", "architectures": ["PI0ForConditionalGeneration"],
    "chunk_size": 5, "max_state_dim": 9, "max_action_dim": 9, "num_inference_steps": 4, "dtype": "bfloat16",
    "vlm_config": {"model_type": "paligemma",
      "text_config": {"hidden_size": 16, "num_hidden_layers": 3, "intermediate_size": 24, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 40,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
      "vision_config": {"hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 20, "num_attention_heads": 3,
        "image_size": 28, "patch_size": 14}},
    "dit_config": {"hidden_size": 8, "num_hidden_layers": 3, "intermediate_size": 12, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 6}})");
  EXPECT_EQ(values(), expected);
  EXPECT_EQ(load().warnings.size(), 1u);  // no processor_config.json
  write_file(path_ / "processor_config.json", R"({"state_mean": [1, 2], "state_std": [1, 0.5],
    "actions_mean": [0], "actions_std": [2]})");
  const PolicyConfig c = load().config;
  EXPECT_EQ(c.layout, PolicyLayout::transformers);
  EXPECT_EQ(c.prompt, PromptRule::transformers);
  EXPECT_EQ(c.resize, ResizeRule::bicubic);
  EXPECT_EQ(c.time_precision, DType::f32);
  EXPECT_EQ(c.state.second, (std::vector<double>{1, 0.5}));
  edit_config("\"num_attention_heads\": 4,\n        \"num_key_value_heads\": 2",
              "\"num_key_value_heads\": 2");
  EXPECT_TRUE(fails_with("the same attention heads, found 16 and 4"));  // the class's default, not Pi0's
}

TEST_F(PolicyDirectory, OpenpiLayoutTellsTheFamilyByItsTensors) {
  make_openpi(PolicyFamily::pi05);
  write_norm_stats("trossen", R"({"mean": [0], "std": [1], "q01": [-1], "q99": [1]})");
  const PolicyCheckpoint pi05 = load();
  EXPECT_EQ(pi05.config.family, PolicyFamily::pi05);
  EXPECT_EQ(pi05.config.layout, PolicyLayout::openpi);
  EXPECT_EQ(pi05.config.time_grid, TimeGrid::accumulated_f32);
  EXPECT_EQ(pi05.config.resize, ResizeRule::pillow_antialias);
  EXPECT_TRUE(pi05.config.state_in_prompt);
  EXPECT_EQ(pi05.config.action.mode, NormMode::quantile);
  EXPECT_EQ(pi05.config.action.second, (std::vector<double>{1, 4}));
  EXPECT_EQ(pi05.config.cameras.size(), 3u);
  make_openpi(PolicyFamily::pi0);
  EXPECT_EQ(load().config.family, PolicyFamily::pi0);
  EXPECT_EQ(load().config.action.mode, NormMode::zscore);
}

TEST_F(PolicyDirectory, OpenpiAssets) {
  make_openpi(PolicyFamily::pi05);
  EXPECT_EQ(load().warnings.size(), 1u);  // no statistics
  EXPECT_EQ(load().config.state.mode, NormMode::identity);
  write_norm_stats("physical-intelligence/libero", R"({"q01": [-1], "q99": [1]})");
  EXPECT_FALSE(load().config.state_in_prompt);  // pi05_libero
  edit_config("{\"action_dim\"", "{\"discrete_state_input\": true, \"action_dim\"");
  EXPECT_TRUE(load().config.state_in_prompt);
  write_norm_stats("droid", R"({"q01": [-2], "q99": [1]})");
  EXPECT_TRUE(fails_with("several assets (droid, physical-intelligence/libero)"));
  EXPECT_EQ(load({.asset = "droid"}).config.state.first, std::vector<double>{-2});
  EXPECT_TRUE(fails_with("holds no other/norm_stats.json", {.asset = "other"}));
}

TEST_F(PolicyDirectory, BadOpenpiStatistics) {
  make_openpi(PolicyFamily::pi05);
  const std::pair<const char*, const char*> cases[] = {
      {R"({"q01": [NaN], "q99": [1]})", "malformed JSON"},
      {R"({"q01": [1e999], "q99": [1]})", "malformed JSON"},
      {R"({"q01": [1, 2], "q99": [1]})", "q01 has 2 values and q99 has 1: expected equal lengths"},
      {R"({"q01": [], "q99": []})", "expected equal lengths from 1"},
      {R"({"q01": [2], "q99": [1]})", "q01[0] = 2, q99[0] = 1: expected low ≤ high"},
      {R"({"q01": ["a"], "q99": [1]})", "/norm_stats/state/q01/0: expected a number"},
      {R"({"mean": [0], "std": [1]})", "/norm_stats/state: the field \"q01\" is missing"},
      {R"({"q01": null, "q99": [1]})", "the field \"q01\" is missing"},
      {"7", "/norm_stats/state: expected an object, found 7"},
  };
  for (const auto& [state, message] : cases) {
    write_norm_stats("x", state);
    EXPECT_TRUE(fails_with(message));
  }
  write_norm_stats("x", R"({"q01": [1], "q99": [1]})");  // a constant dimension is legal: openpi adds 1e-6
  EXPECT_EQ(load().config.state.first[0], 1);
}

TEST_F(PolicyDirectory, QuirksOfThePublishedCheckpoints) {
  synthesize(PolicyFamily::pi05);
  const auto expected = values();
  const std::vector<float> junk(40 * 8, 1.0f);
  const auto add = [&](std::vector<TensorView>& tensors, const char* name, std::vector<int64_t> shape) {
    size_t count = 1;
    for (const int64_t dim : shape) count *= size_t(dim);
    tensors.push_back({name, DType::f32, std::move(shape), std::as_bytes(std::span(junk).first(count))});
  };
  edit_tensors([&](std::vector<TensorView>& tensors) {
    add(tensors, "model.paligemma_with_expert.gemma_expert.lm_head.weight", {40, 8});
    add(tensors, "model.state_proj.weight", {8, 9});
    add(tensors, "model.paligemma_with_expert.gemma_expert.model.norm.weight", {8});
    add(tensors, "model.paligemma_with_expert.gemma_expert.model.layers.0.input_layernorm.weight", {8});
    add(tensors, "model.something.new", {1});
    add(tensors, "model.paligemma_with_expert.gemma_expert.model.layers.7.mlp.up_proj.weight", {12, 8});
  });
  PolicyCheckpoint checkpoint = load();
  EXPECT_EQ(checkpoint.unused.size(), 4u);
  EXPECT_EQ(checkpoint.unknown,
            (std::vector<std::string>{
                "model.something.new",
                "model.paligemma_with_expert.gemma_expert.model.layers.7.mlp.up_proj.weight"}));
  EXPECT_EQ(values(), expected);
  // the other family's name for the time MLP, as openpi's early fine-tunes have it
  rename_tensors([](std::string name) {
    const size_t at = name.find("time_mlp_");
    return at == name.npos ? name : name.insert(at, "action_");
  });
  EXPECT_EQ(values(), expected);
  // with both, embed_tokens is the embedding and lm_head gives way
  edit_tensors([&](std::vector<TensorView>& tensors) {
    for (TensorView& tensor : tensors) {
      if (tensor.name.ends_with("paligemma.lm_head.weight")) {
        tensor.name = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
      }
    }
    add(tensors, "model.paligemma_with_expert.paligemma.lm_head.weight", {1, 1});
  });
  EXPECT_EQ(values(), expected);
}

TEST_F(PolicyDirectory, NamesAllTensorsThatAreMissingOrDoNotFit) {
  synthesize(PolicyFamily::pi0);
  edit_tensors([](std::vector<TensorView>& tensors) {
    std::erase_if(tensors, [](const TensorView& tensor) {
      return tensor.name == "model.state_proj.bias" ||
             tensor.name.ends_with("expert.model.layers.1.mlp.up_proj.weight");
    });
    for (TensorView& tensor : tensors) {
      if (tensor.name == "model.action_in_proj.bias") tensor.dtype = DType::i32;
      if (tensor.name == "model.action_in_proj.weight") tensor.shape = {9, 8};
    }
  });
  EXPECT_TRUE(fails_with(
      "2 tensors are missing:\n  state_proj.bias [8]\n  expert.layers.1.mlp.up_proj.weight [12, 8]"));
  EXPECT_TRUE(
      fails_with("model.action_in_proj.weight: shape [9, 8], expected [8, 9] from the sizes in config.json"));
  EXPECT_TRUE(fails_with("model.action_in_proj.bias: element type i32, expected f32, bf16 or f16"));
}

TEST_F(PolicyDirectory, RefusesTwoTensorsOfOneMeaning) {
  synthesize(PolicyFamily::pi0);
  edit_tensors([](std::vector<TensorView>& tensors) {
    TensorView copy = tensors[0];
    copy.name = copy.name.substr(6);
    tensors.push_back(copy);
  });
  EXPECT_TRUE(fails_with("are both the tensor vision_tower.embeddings.patch_embedding.weight"));
}

TEST_F(PolicyDirectory, ReadsAShardedCheckpoint) {
  synthesize(PolicyFamily::pi0);
  const auto expected = values();
  const fs::path single = path_ / "model.safetensors";
  {
    const SafetensorsFile model(single.string());
    const auto& all = model.tensors();
    const size_t half = all.size() / 2;
    write_safetensors((path_ / "m-1.safetensors").string(), std::span(all).first(half));
    write_safetensors((path_ / "m-2.safetensors").string(), std::span(all).subspan(half));
    std::string map;
    for (size_t i = 0; i < all.size(); ++i) {
      map += fmt::format("{}\"{}\": \"m-{}.safetensors\"", i ? "," : "", all[i].name, i < half ? 1 : 2);
    }
    write_file(path_ / "model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  }
  fs::remove(single);
  EXPECT_EQ(values(), expected);
  fs::remove(path_ / "m-2.safetensors");
  EXPECT_TRUE(fails_with("the shard \"m-2.safetensors\" is missing"));
}

TEST_F(PolicyDirectory, LeRobotProcessorsDecide) {
  synthesize(PolicyFamily::pi05);
  const fs::path pre = path_ / "policy_preprocessor.json";
  edit(pre, R"("rename_map": {})", R"("rename_map": {"observation.images.top": "observation.images.front"})");
  edit(pre, R"("max_length": 30)", R"("max_length": 20)");
  edit(pre, R"("STATE": "QUANTILES")", R"("STATE": "MIN_MAX")");
  edit(pre, R"({"registry_name": "device_processor", "config": {}})",
       R"({"registry_name": "relative_actions_processor", "config": {"enabled": true,
         "exclude_joints": ["Gripper"], "action_names": ["a", "left_gripper"]}}, {"registry_name": "new_step"})");
  const PolicyCheckpoint checkpoint = load();
  EXPECT_EQ(checkpoint.config.renames.at("observation.images.top"), "observation.images.front");
  EXPECT_EQ(checkpoint.config.max_prompt_tokens, 20);
  EXPECT_EQ(checkpoint.config.state.mode, NormMode::minmax);
  EXPECT_EQ(checkpoint.config.action.mode, NormMode::quantile);
  EXPECT_EQ(checkpoint.config.relative_actions,
            (std::vector<bool>{true, false, true, true, true, true, true}));
  ASSERT_EQ(checkpoint.warnings.size(), 1u);
  EXPECT_NE(checkpoint.warnings[0].find("unknown processor step \"new_step\""), std::string::npos);
}

TEST_F(PolicyDirectory, BadLeRobotStatistics) {
  synthesize(PolicyFamily::pi0);
  const fs::path pre = path_ / "policy_preprocessor.json";
  const std::string file = (path_ / "policy_preprocessor_step_2_normalizer_processor.safetensors").string();
  const float bad[] = {1, std::nanf("")}, good[] = {1, 1}, negative[] = {1, -1};
  const auto write = [&](const float* mean, std::span<const float> std) {
    const TensorView tensors[] = {
        {"observation.state.mean", DType::f32, {2}, std::as_bytes(std::span(mean, 2))},
        {"observation.state.std", DType::f32, {int64_t(std.size())}, std::as_bytes(std)}};
    write_safetensors(file, std::span(tensors, std.empty() ? 1 : 2));
  };
  write(bad, good);
  EXPECT_TRUE(fails_with("mean[1] = nan, std[1] = 1: expected finite values"));
  write(good, negative);
  EXPECT_TRUE(fails_with("std[1] = -1: expected std ≥ 0"));
  write(good, std::span(good).first(1));
  EXPECT_TRUE(fails_with("mean has 2 values and std has 1"));
  write(good, {});
  EXPECT_TRUE(fails_with("std is missing"));
  write_file(file, "short");
  EXPECT_TRUE(fails_with("too short for a safetensors file"));
  fs::remove(file);
  EXPECT_TRUE(fails_with("cannot open"));
  edit(pre, "policy_preprocessor_step_2", "../policy_preprocessor_step_2");
  EXPECT_TRUE(fails_with("/steps/2/state_file: expected the name of a file in the same folder"));
  write_file(pre, "{\"steps\": 3}");
  EXPECT_TRUE(fails_with("/steps: expected an array, found 3"));
  fs::remove(pre);
  EXPECT_EQ(load().config.state.mode, NormMode::identity);
  EXPECT_EQ(load().warnings.size(), 1u);
}

TEST_F(PolicyDirectory, ReadsStatisticsAmongTheWeights) {
  synthesize(PolicyFamily::pi0);
  fs::remove(path_ / "policy_preprocessor.json");
  const float values[] = {1, 2};
  edit_tensors([&](std::vector<TensorView>& tensors) {
    for (const char* name :
         {"normalize_inputs.buffer_observation_state.mean", "normalize_inputs.buffer_observation_state.std",
          "unnormalize_outputs.buffer_action.mean", "unnormalize_outputs.buffer_action.std"}) {
      tensors.push_back({name, DType::f32, {2}, std::as_bytes(std::span(values))});
    }
  });
  const PolicyCheckpoint checkpoint = load();
  EXPECT_EQ(checkpoint.config.action.second, (std::vector<double>{1, 2}));
  EXPECT_EQ(checkpoint.unused.size(), 4u);
}

TEST_F(PolicyDirectory, FindsTheTokenizer) {
  const fs::path tokenizer =
      fs::path(testing::TempDir()) / fmt::format("flashrt_policy_tok_{}.json", getpid());
  write_file(tokenizer, "{}");
  synthesize(PolicyFamily::pi0, {.tokenizer = tokenizer.string()});
  fs::remove(tokenizer);
  EXPECT_EQ(load().tokenizer, (path_ / "tokenizer.json").string());
}

TEST_F(PolicyDirectory, NamesWhatADirectoryLacks) {
  EXPECT_TRUE(fails_with("expected the directory of a checkpoint"));
  fs::create_directories(path_);
  EXPECT_TRUE(fails_with("holds no config.json"));
  write_file(path_ / "config.json", "{}");
  EXPECT_TRUE(fails_with("holds neither model.safetensors nor"));
}

}  // namespace
}  // namespace flashrt
