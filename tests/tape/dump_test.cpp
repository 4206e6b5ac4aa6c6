// The tape of tiny policies as text, recorded and after all passes, and their arenas: every change of a model
// or a pattern shows as a difference. FLASHRT_UPDATE_GOLDEN=1 rewrites tests/data/tape.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "base/error.h"
#include "runtime/policy_engine.h"

namespace flashrt {
namespace {

PolicyConfig tiny(PolicyFamily family) {
  PolicyConfig c;
  c.family = family;
  c.vision = {.width = 24, .layers = 1, .mlp = 40, .heads = 2, .image_size = 28, .patch = 14};
  c.language = {.width = 32, .layers = 2, .mlp = 48, .heads = 2, .kv_heads = 1, .head_dim = 16};
  c.expert = {.width = 24, .layers = 2, .mlp = 40, .heads = 2, .kv_heads = 1, .head_dim = 16};
  c.vocab = 64;
  c.action_dim = c.state_dim = 8;
  c.max_prompt_tokens = 12;
  c.embedding_scale = 5.5;
  return c;
}
constexpr PolicyShape kShape{.views = 2, .text_tokens = 12, .horizon = 5, .steps = 2};

// Source lines move with every edit of a model's file; which file it was stays.
std::string without_line_numbers(const std::string& text) {
  return std::regex_replace(text, std::regex(R"((\w+\.cpp):\d+)"), "$1");
}

void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = FLASHRT_TEST_DATA "/tape/" + name;
  if (std::getenv("FLASHRT_UPDATE_GOLDEN") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::ifstream file(path);
  ASSERT_TRUE(file) << path << " is missing; FLASHRT_UPDATE_GOLDEN=1 writes it";
  std::stringstream want;
  want << file.rdbuf();
  EXPECT_EQ(text, want.str()) << "FLASHRT_UPDATE_GOLDEN=1 accepts the new text of " << path;
}

class Dump : public testing::TestWithParam<PolicyFamily> {};

TEST_P(Dump, TapeAndMemory) {
  const PolicyConfig config = tiny(GetParam());
  const std::string family(name_of(GetParam()));
  const WeightSource weights = random_policy_weights(config, 1);
  Program recorded(DType::bf16);
  record_pi0(recorded, config, weights, kShape);
  expect_golden(family + "_recorded.txt", without_line_numbers(dump_tape(recorded)));

  PolicyEngine engine(config, weights, Backend::open("cpu", Precision::bf16));
  Runner& runner = engine.runner(kShape);
  std::string text = without_line_numbers(dump_tape(runner.program()));
  text += fmt::format("\nfolded {}, dropped {}, fused {}\n", runner.folded, runner.dropped, runner.fused);
  const std::string memory = dump_memory(runner.program(), runner.plan());
  expect_golden(family + "_built.txt", text + memory.substr(0, memory.find('\n') + 1));
}

INSTANTIATE_TEST_SUITE_P(Policies, Dump, testing::Values(PolicyFamily::pi0, PolicyFamily::pi05),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// The published sizes, 3 views, 200 tokens, 50 actions: lines and bytes in the order of the design's budget.
TEST(Dump, PublishedSizesPlanWithinTheBudget) {
  PolicyConfig config;
  config.family = PolicyFamily::pi05;
  config.max_prompt_tokens = 200;
  config.embedding_scale = 45;
  const WeightSource weights = random_policy_weights(config, 1);
  Program program(DType::bf16);
  record_pi0(program, config, weights, {.views = 3, .text_tokens = 200, .horizon = 50, .steps = 10});
  const size_t recorded = program.lines.size();
  const int folded = fold(program), dropped = drop_dead(program);
  EXPECT_EQ(program.lines.size(), recorded - size_t(folded + dropped));
  EXPECT_GE(folded, 37) << "the time MLP and the modulations of all steps";
  EXPECT_GE(dropped, 5) << "the last prefix layer but its keys and values";
  const Plan plan = plan_memory(program);
  EXPECT_LE(plan.arena_bytes, 120 << 20);
  EXPECT_GE(plan.unshared_bytes, 10 * plan.arena_bytes);
}

}  // namespace
}  // namespace flashrt
