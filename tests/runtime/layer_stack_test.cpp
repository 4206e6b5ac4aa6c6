// The action expert as one persistent launch gives what its lines give one by one, and the same again every
// time.
#include <gtest/gtest.h>

#include <cstring>

#include "runtime/policy_engine.h"
#include "runtime/policy_inputs.h"
#include "tests/runtime/tiny_policy.h"

namespace flashrt {
namespace {

struct Chunk {
  PolicyFamily family;
  int64_t horizon, prompt;
};

class LayerStackTest : public testing::TestWithParam<Chunk> {};

// Small but for the expert, whose sizes the launch is built for.
PolicyConfig config_for(PolicyFamily family) {
  PolicyConfig c = tiny_policy_config(family);
  c.language.heads = 8, c.language.head_dim = 256;
  c.expert = {.width = 1024, .layers = 2, .mlp = 4096, .heads = 8, .kv_heads = 1, .head_dim = 256};
  c.action_dim = 32;
  return c;
}

std::span<const float> run(Runner& runner) {
  EXPECT_TRUE(runner.run()) << runner.error();
  const auto bytes = runner.output("actions");
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

TEST_P(LayerStackTest, EqualsItsLines) {
  std::shared_ptr<Backend> backend = Backend::open("auto", Precision::automatic);
  if (!backend->on_gpu()) GTEST_SKIP() << "no GPU";
  const auto [family, horizon, prompt] = GetParam();
  const PolicyConfig config = config_for(family);
  const PolicyShape shape{.views = 2, .text_tokens = prompt, .horizon = horizon, .steps = 3};
  PolicyEngine stacked(config, random_policy_weights(config, 3), backend);
  PolicyEngine lines(config, random_policy_weights(config, 3), backend,
                     {.force = {{"decoder_stack", "-persistent"}}});
  Runner &one = stacked.runner(shape), &other = lines.runner(shape);
  if (one.launch_count() == other.launch_count()) GTEST_SKIP() << "this GPU runs the lines one by one";
  fill_random_inputs(one, config, 5);
  fill_random_inputs(other, config, 5);

  const std::span<const float> actions = run(one);
  const std::vector<float> first(actions.begin(), actions.end());
  const Comparison difference = compare(first, run(other));
  EXPECT_LT(difference.relative, 1e-2);
  EXPECT_GT(difference.cosine, 0.9999);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(std::memcmp(run(one).data(), first.data(), first.size() * sizeof(float)), 0) << "run " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LayerStackTest,
                         testing::Values(Chunk{PolicyFamily::pi05, 8, 16}, Chunk{PolicyFamily::pi05, 10, 48},
                                         Chunk{PolicyFamily::pi05, 50, 200},
                                         Chunk{PolicyFamily::pi05, 64, 900}, Chunk{PolicyFamily::pi0, 7, 48},
                                         Chunk{PolicyFamily::pi0, 50, 48}));

}  // namespace
}  // namespace flashrt
