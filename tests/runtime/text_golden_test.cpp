// Language models of every family against what transformers recorded: logits, and the greedy continuation.
#include <gtest/gtest.h>

#include <filesystem>

#include "io/lm_case.h"
#include "runtime/policy_engine.h"
#include "runtime/text_generator.h"

namespace flashrt {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> all_models() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(FLASHRT_TEST_DATA "/lm"))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

std::vector<int32_t> greedy(LmEngine& engine, std::span<const int32_t> prompt, size_t count) {
  std::vector<int32_t> ids;
  engine.rewind(0);
  std::span<const float> logits = engine.extend(prompt);
  while (true) {
    ids.push_back(int32_t(std::ranges::max_element(logits) - logits.begin()));
    if (ids.size() == count) return ids;
    logits = engine.extend({&ids.back(), 1});
  }
}

class LmGolden : public testing::TestWithParam<std::string> {
 protected:
  std::string path = FLASHRT_TEST_DATA "/lm/" + GetParam();
  LmCheckpoint checkpoint = load_lm_checkpoint(path);
  LmCase recorded = read_lm_case(path + "/case.safetensors");
  std::shared_ptr<Backend> backend = Backend::open("cpu", Precision::f32);
  int64_t needed = int64_t(recorded.token_ids.size() + recorded.greedy.size());
};

TEST_P(LmGolden, Logits) {
  for (const bool fused : {false, true}) {
    LmEngine engine(checkpoint.config, checkpoint_weights(checkpoint), backend, needed,
                    {.fuse = fused, .poison = true});
    EXPECT_EQ(recorded.vocab, checkpoint.config.vocab);
    const Comparison c = compare(engine.all_logits(recorded.token_ids), recorded.logits);
    EXPECT_LE(c.relative, 1e-5) << "fused " << fused;
  }
}

TEST_P(LmGolden, GreedyContinuation) {
  ASSERT_EQ(recorded.greedy.size(), 24u);
  for (const bool fused : {false, true}) {
    for (const int64_t context : {needed, needed + 100}) {  // without and with room for a padded prefill
      LmEngine engine(checkpoint.config, checkpoint_weights(checkpoint), backend, context,
                      {.fuse = fused, .poison = true});
      EXPECT_EQ(greedy(engine, recorded.token_ids, 24), recorded.greedy)
          << "fused " << fused << ", " << context;
    }
  }
}

// Prefill in buckets, one by one, and after a rewind: the same logits as the whole text at once.
TEST_P(LmGolden, EveryWayInGivesTheSameLogits) {
  std::vector<int32_t> ids = recorded.token_ids;
  ids.insert(ids.end(), recorded.greedy.begin(), recorded.greedy.end());
  const int64_t vocab = recorded.vocab;
  LmEngine engine(checkpoint.config, checkpoint_weights(checkpoint), backend, 64, {.poison = true});
  const std::vector<float> all = engine.all_logits(ids);
  const auto expect_last = [&](std::span<const float> logits, size_t count) {
    const auto row = std::span(all).subspan((count - 1) * size_t(vocab), size_t(vocab));
    EXPECT_LE(compare(logits, row).relative, 1e-5) << count << " tokens";
  };
  expect_last(engine.extend(ids), ids.size());
  engine.rewind(5);
  expect_last(engine.extend(std::span(ids).subspan(5, 3)), 8);
  engine.rewind(0);
  for (size_t i = 0; i < ids.size(); ++i) expect_last(engine.extend({&ids[i], 1}), i + 1);
}

INSTANTIATE_TEST_SUITE_P(Families, LmGolden, testing::ValuesIn(all_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace flashrt
