// flashrt quantize, and --weights: what is written reads back as what is encoded while loading.
#include "runtime/quantize.h"

#include "io/lm_case.h"
#include "runtime/policy_engine.h"
#include "runtime/text_generator.h"
#include "runtime/weight_formats.h"
#include "tests/apps/command_line.h"

namespace flashrt {
namespace {

const std::string kLm = FLASHRT_TEST_DATA "/lm/";
constexpr const char* kFormats[] = {"fp8", "int8", "int4", "nvfp4"};

// The checkpoint `name` with plain weights of sizes that every format takes.
std::string plain_of(const std::string& packed) {
  const std::string path = scratch() / ("plain_" + packed);
  if (fs::exists(path)) return path;
  const LmCheckpoint checkpoint = load_lm_checkpoint(kLm + packed);
  const WeightSource source = checkpoint_weights(checkpoint);
  fs::create_directories(path);
  std::vector<TensorView> tensors;
  std::vector<std::vector<float>> held;
  for (const LmWeightSpec& spec : lm_weight_specs(checkpoint.config)) {
    held.push_back(weight_values(source(spec.name)));
    tensors.push_back({spec.name, DType::f32, spec.shape, std::as_bytes(std::span(held.back()))});
  }
  write_safetensors(path + "/model.safetensors", tensors);
  nlohmann::json config = nlohmann::json::parse(slurp(kLm + packed + "/config.json"));
  config.erase("quantization_config");
  spill(path + "/config.json", config.dump());
  fs::copy_file(FLASHRT_TEST_DATA "/tokenizer/byte_qwen.json", path + "/tokenizer.json");
  return path;
}

std::vector<float> logits_of(const LmCheckpoint& checkpoint, const std::string& format,
                             const std::vector<int32_t>& ids) {
  LmEngine engine(checkpoint.config, lm_weights(checkpoint, format), Backend::open("cpu", Precision::f32),
                  64);
  return engine.all_logits(ids);
}

TEST(Quantize, WhatIsWrittenIsWhatLoadingEncodes) {
  for (const std::string model : {"packed_nvfp4", "packed_experts"}) {
    const std::string from = plain_of(model);
    const LmCheckpoint plain = load_lm_checkpoint(from);
    const std::vector<int32_t> ids = read_lm_case(kLm + model + "/case.safetensors").token_ids;
    const std::vector<float> exact = logits_of(plain, "", ids);
    for (const std::string format : kFormats) {
      const std::string out = scratch() / (model + "_" + format);
      const Ran ran = flashrt_run({"quantize", from, "--weights", format, "--out", out, "--json"});
      ASSERT_EQ(ran.code, 0) << ran.err;
      const LmCheckpoint packed = load_lm_checkpoint(out);
      EXPECT_EQ(ran.json()["matrices"].size(), packed.packed.size());
      EXPECT_LT(size_t(ran.json()["bytes_after"]), size_t(ran.json()["bytes_before"]));
      EXPECT_TRUE(fs::exists(out + "/tokenizer.json"));
      const std::vector<float> got = logits_of(packed, "", ids);
      EXPECT_EQ(got, logits_of(plain, format, ids)) << model << " " << format;
      const double bar = format == "int8" ? 0.01 : format == "fp8" ? 0.03 : 0.12;
      EXPECT_LT(double(ran.json()["relative_error"]), bar) << format;
      EXPECT_GT(double(ran.json()["relative_error"]), format == "nvfp4" ? 0 : 1e-4) << format;
      EXPECT_LT(compare(got, exact).relative, 12 * bar) << model << " " << format;
      EXPECT_EQ(packed.packed.count("model.embed_tokens.weight") + packed.packed.count("lm_head.weight"), 0u);
      EXPECT_EQ(packed.packed.count("model.layers.0.mlp.gate.weight"), 0u);
    }
  }
}

TEST(Quantize, GenerateTakesBoth) {
  const std::string from = plain_of("packed_awq"), out = scratch() / "awq_fp8";
  ASSERT_EQ(flashrt_run({"quantize", from, "--weights", "fp8", "--out", out}).code, 0);
  const auto verify = [](std::vector<std::string> more) {
    std::vector<std::string> arguments{"verify",   more[0], kLm + "packed_awq/case.safetensors",
                                       "--device", "cpu",   "--json"};
    arguments.insert(arguments.end(), more.begin() + 1, more.end());
    return double(flashrt_run(arguments).json()["outputs"]["logits"]["relative"]);
  };
  const double stored = verify({out});
  EXPECT_EQ(stored, verify({from, "--weights", "fp8"}));
  EXPECT_LT(verify({from}), 1e-5);  // the values that were packed, in plain f32
  EXPECT_GT(stored, 1e-4);
}

TEST(Quantize, RefusesBadInput) {
  const std::string from = plain_of("packed_awq"), full = scratch() / "full";
  fs::create_directories(full);
  spill(full + "/something", "x");
  const std::string out = scratch() / "never";
  expect_refused({"quantize", from, "--weights", "int3", "--out", out}, {"--weights", "fp8", "int3"});
  expect_refused({"quantize", from, "--weights", "fp8", "--out", full}, {"--out", "new or empty"});
  expect_refused({"quantize", kLm + "packed_awq", "--weights", "fp8", "--out", out},
                 {"packed_awq", "plain weights", "awq"});
  expect_refused({"quantize", kLm + "qwen3_yarn", "--weights", "nvfp4", "--out", out},
                 {"down_proj", "multiple of 16", "[24, 40]"});
  expect_refused({"quantize", out, "--weights", "fp8", "--out", full}, {"never", "directory"});
  const std::string c = kLm + "packed_awq/case.safetensors";
  expect_refused({"verify", kLm + "packed_awq", c, "--weights", "fp8", "--device", "cpu"},
                 {"--weights fp8", "int4"});
  expect_refused({"verify", from, c, "--weights", "q4_0", "--device", "cpu"}, {"--weights", "q4_0"});
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace flashrt
