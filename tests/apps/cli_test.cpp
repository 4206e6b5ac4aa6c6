// The executable from a random checkpoint to actions: synth, inspect, run, bench, verify, profile, diff.
#include "io/case_file.h"
#include "io/npy.h"
#include "tests/apps/command_line.h"

namespace flashrt {
namespace {

const char* const kGolden = FLASHRT_TEST_DATA "/policy/pi05_basic";

TEST(Cli, EverySubcommandHasHelp) {
  const Ran overview = flashrt_run({"--help"});
  EXPECT_EQ(overview.code, 0);
  for (const char* name : {"run", "inspect", "bench", "verify", "profile", "diff", "synth", "demo", "eval"}) {
    SCOPED_TRACE(name);
    expect_words(overview.out, {name});
    const Ran help = flashrt_run({name, "--help"});
    EXPECT_EQ(help.code, 0);
    expect_words(help.out, {"Usage:", "--help"});
  }
}

TEST(Cli, SynthRepeatsItself) {
  const fs::path a = scratch() / "synth_a", b = scratch() / "synth_b", c = scratch() / "synth_c";
  for (const auto& [path, seed] : {std::pair{a, "1"}, {b, "1"}, {c, "2"}})
    ASSERT_EQ(flashrt_run({"synth", path, "--seed", seed, "--layers", "1", "--vision-layers", "1"}).code, 0);
  EXPECT_EQ(slurp(a / "model.safetensors"), slurp(b / "model.safetensors"));
  EXPECT_NE(slurp(a / "model.safetensors"), slurp(c / "model.safetensors"));
}

TEST(Cli, InspectShowsTapeAndMemory) {
  const Ran text = flashrt_run({"inspect", tiny_checkpoint(), "--tape", "--memory", "--device", "cpu"});
  EXPECT_EQ(text.code, 0) << text.err;
  expect_words(text.out,
               {"vision:", "prefix:", "action:", "pi0.cpp:", "attention(", "arena ", "without sharing"});
  const auto json = flashrt_run({"inspect", tiny_checkpoint(), "--tape", "--json", "--device", "cpu"}).json();
  EXPECT_EQ(json["family"], "pi05");
  EXPECT_EQ(json["language"]["layers"], 2);
  EXPECT_GT(json["program"]["lines"], 20);
  EXPECT_GT(json["program"]["folded"], 5);
  EXPECT_GT(json["program"]["arena_bytes_unshared"], json["program"]["arena_bytes"]);
  EXPECT_TRUE(json["unknown_tensors"].empty());
}

TEST(Cli, RunPrintsTheSameActionsInEveryForm) {
  for (const char* family : {"pi05", "pi0"}) {
    SCOPED_TRACE(family);
    const auto arguments = run_arguments(tiny_checkpoint(family));
    const Ran json = flashrt_run(with(arguments, {"--json", "--seed", "5"}));
    ASSERT_EQ(json.code, 0) << json.err;
    const auto document = json.json();
    EXPECT_EQ(document["horizon"], 4);
    EXPECT_EQ(document["action_dim"], 5);
    for (const char* stage : {"preprocess", "vision", "prefix", "action", "post", "total"})
      EXPECT_GE(document["times_ms"][stage].get<double>(), 0) << stage;

    const std::string file = scratch() / "actions.npy";
    ASSERT_EQ(flashrt_run(with(arguments, {"--out", file, "--seed", "5"})).code, 0);
    const NpyArray array = read_npy(file);
    ASSERT_EQ(array.shape, (std::vector<int64_t>{4, 5}));
    for (size_t i = 0; i < 20; ++i)
      EXPECT_EQ(array.values[i], document["actions"][i / 5][i % 5].get<float>()) << i;

    const Ran table = flashrt_run(with(arguments, {"--seed", "5", "--repeat", "2"}));
    EXPECT_EQ(table.code, 0);
    expect_words(table.out, {fmt::format("{:.5f}", array.values[7])});
    EXPECT_NE(flashrt_run(with(arguments, {"--json", "--seed", "6"})).json()["actions"], document["actions"]);
  }
}

TEST(Cli, RunTakesStateAndNoiseFromFiles) {
  const std::string state = scratch() / "state.npy", noise = scratch() / "noise.npy";
  const int64_t state_shape[] = {6}, noise_shape[] = {4, 5};
  write_npy(state, state_shape, std::vector<float>{0.1f, -0.2f, 0, 0.3f, 0, 0.5f});
  const auto arguments = run_arguments(tiny_checkpoint());
  EXPECT_EQ(flashrt_run(with(replaced(arguments, "--state", state), {"--json"})).json()["actions"],
            flashrt_run(with(arguments, {"--json"})).json()["actions"]);
  write_npy(noise, noise_shape, std::vector<float>(20, 0.5f));
  const Ran ran = flashrt_run(with(arguments, {"--json", "--noise", noise}));
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.json()["actions"], flashrt_run(with(arguments, {"--json"})).json()["actions"]);
}

TEST(Cli, RunNamesCameras) {
  auto arguments = run_arguments(tiny_checkpoint());
  const auto in_order = flashrt_run(with(arguments, {"--json"})).json()["actions"];
  arguments[3] = std::string("camera1=") + FLASHRT_TEST_DATA "/image/444.jpg";
  arguments[5] = std::string("camera0=") + FLASHRT_TEST_DATA "/image/rgb.png";
  EXPECT_EQ(flashrt_run(with(arguments, {"--json"})).json()["actions"], in_order);
}

TEST(Cli, BenchReportsWhatAClaimNeeds) {
  const std::string file = scratch() / "bench.json";
  const Ran ran = flashrt_run({"bench",
                               tiny_checkpoint(),
                               "--views",
                               "2",
                               "--prompt-tokens",
                               "12",
                               "--horizon",
                               "4",
                               "--calls",
                               "20",
                               "--warmup",
                               "2",
                               "--hz",
                               "100",
                               "--check",
                               "--json",
                               "--out",
                               file,
                               "--device",
                               "cpu"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto json = ran.json();
  for (const char* key :
       {"network", "device", "precision", "views", "prompt_tokens", "horizon", "steps", "calls", "warmup",
        "wall_ms", "graph_ms", "launches", "arena_bytes", "weight_bytes", "stages"})
    EXPECT_TRUE(json.contains(key)) << key;
  const auto& wall = json["wall_ms"];
  EXPECT_LE(wall["min"], wall["p50"]);
  EXPECT_LE(wall["p50"], wall["p95"]);
  EXPECT_LE(wall["p95"], wall["p99"]);
  EXPECT_LE(wall["p99"], wall["max"]);
  EXPECT_EQ(json["paced"]["hz"], 100);
  EXPECT_LT(json["accuracy"]["relative"], 1e-5);
  EXPECT_EQ(nlohmann::json::parse(slurp(file)), json);
  const Ran text =
      flashrt_run({"bench", tiny_checkpoint(), "--calls", "2", "--warmup", "0", "--device", "cpu"});
  expect_words(text.out, {"p50", "p95", "p99", "launches"});
}

TEST(Cli, VerifyAcceptsTheGoldenAndNotALie) {
  const std::string good = std::string(kGolden) + "/case_0.safetensors", lie = scratch() / "lie.safetensors";
  const Ran ran = flashrt_run({"verify", kGolden, good, "--json", "--device", "cpu"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_LT(ran.json()["outputs"]["actions"]["relative"], 1e-4);
  EXPECT_EQ(ran.json()["ok"], true);
  EXPECT_EQ(flashrt_run({"verify", kGolden, good, "--precision", "bf16", "--device", "cpu"}).code, 0);
  EXPECT_EQ(flashrt_run({"verify", kGolden, good, "--tol", "1e-12", "--device", "cpu"}).code, 1);

  PolicyCase recorded = read_policy_case(good);
  for (float& a : recorded.actions) a *= 1.01f;
  write_policy_case(lie, recorded);
  const Ran refused = flashrt_run({"verify", kGolden, lie, "--device", "cpu"});
  EXPECT_EQ(refused.code, 1);
  expect_words(refused.out, {"actions", "FAILED", "tolerance"});
}

TEST(Cli, ProfileAccountsForEveryLine) {
  const auto json =
      flashrt_run({"profile", tiny_checkpoint(), "--repeats", "2", "--json", "--device", "cpu"}).json();
  ASSERT_TRUE(json.contains("lines"));
  const size_t lines = json["lines"].size();
  EXPECT_GT(lines, 20u);
  for (const char* key :
       {"op", "at", "stage", "us", "gb_per_s", "tflop_per_s", "roofline_percent", "implementation"})
    EXPECT_TRUE(json["lines"][0].contains(key)) << key;
  const Ran text =
      flashrt_run({"profile", tiny_checkpoint(), "--repeats", "1", "--top", "5", "--device", "cpu"});
  expect_words(text.out, {"pi0.cpp:", "linear"});
}

TEST(Cli, DiffComparesLineByLine) {
  const Ran fine = flashrt_run({"diff", tiny_checkpoint(), "--precision", "bf16", "--device", "cpu"});
  EXPECT_EQ(fine.code, 0) << fine.out << fine.err;
  expect_words(fine.out, {"no divergence"});
  const Ran strict =
      flashrt_run({"diff", tiny_checkpoint(), "--precision", "bf16", "--tol", "1e-7", "--device", "cpu"});
  EXPECT_EQ(strict.code, 1);
  expect_words(strict.out, {"first divergence: line", "pi0.cpp:"});
  const Ran replayed = flashrt_run(
      {"diff", kGolden, "--case", std::string(kGolden) + "/case_0.safetensors", "--json", "--device", "cpu"});
  EXPECT_EQ(replayed.code, 0) << replayed.err;
  EXPECT_EQ(replayed.json()["worst_relative"], 0.0) << "the definition against itself";
}

TEST(Cli, CudaWithoutAGpuIsAClearError) {
  const Ran ran = flashrt_run({"bench", tiny_checkpoint(), "--calls", "1", "--device", "cuda"});
  if (ran.code == 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_EQ(ran.code, 2);
  expect_words(ran.err, {"--device cuda"});
  const Ran automatic = flashrt_run({"bench", tiny_checkpoint(), "--calls", "1", "--device", "auto"});
  EXPECT_EQ(automatic.code, 0);
  expect_words(automatic.err, {"running on the CPU: "});
}

}  // namespace
}  // namespace flashrt
