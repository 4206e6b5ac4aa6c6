// The sampler: its filters by hand-made logits, its frequencies by counting, its seed by repetition.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"

namespace flashrt {
namespace {

std::vector<int> histogram(SamplerOptions options, const std::vector<float>& logits, int draws = 4000) {
  std::vector<int> counts(logits.size(), 0);
  Sampler sampler(options, int64_t(logits.size()));
  for (int i = 0; i < draws; ++i) ++counts[size_t(sampler.pick(logits))];
  return counts;
}
std::set<int> support(SamplerOptions options, const std::vector<float>& logits) {
  std::set<int> ids;
  const auto counts = histogram(options, logits);
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 0) ids.insert(int(i));
  }
  return ids;
}
// Logits whose softmax is 0.1, 0.4, 0.2, 0.3.
const std::vector<float> kLogits{std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
  Sampler sampler({}, 4);
  EXPECT_EQ(sampler.pick(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_NEAR(sampler.log_probability(), 3 - std::log(std::exp(1) + 2 * std::exp(3) + std::exp(2)), 1e-6);
}

TEST(Sampler, FrequenciesFollowTheTemperature) {
  const std::vector<float> logits = kLogits;
  for (const double temperature : {0.5, 1.0, 2.0}) {
    double total = 0;
    for (float l : logits) total += std::exp(l / temperature);
    const auto counts = histogram({.temperature = temperature, .seed = 5}, logits, 40000);
    for (size_t i = 0; i < logits.size(); ++i) {
      EXPECT_NEAR(counts[i] / 40000.0, std::exp(logits[i] / temperature) / total, 0.012) << temperature;
    }
  }
}

TEST(Sampler, FiltersKeepWhatTheySay) {
  EXPECT_EQ(support({.temperature = 1}, kLogits), (std::set{0, 1, 2, 3}));
  EXPECT_EQ(support({.temperature = 1, .top_k = 2}, kLogits), (std::set{1, 3}));
  EXPECT_EQ(support({.temperature = 1, .top_k = 9}, kLogits), (std::set{0, 1, 2, 3}));
  EXPECT_EQ(support({.temperature = 1, .top_p = 0.65}, kLogits), (std::set{1, 3}));
  EXPECT_EQ(support({.temperature = 1, .top_p = 0.75}, kLogits), (std::set{1, 2, 3}));
  EXPECT_EQ(support({.temperature = 1, .top_p = 0}, kLogits), (std::set{1}));
  EXPECT_EQ(support({.temperature = 1, .min_p = 0.6}, kLogits), (std::set{1, 3}));
  EXPECT_EQ(support({.temperature = 1, .top_k = 3, .top_p = 0.5}, kLogits),
            (std::set{1, 3}));  // 4/9, 3/9, 2/9
  EXPECT_EQ(support({.temperature = 1, .top_k = 3, .top_p = 0.4}, kLogits), (std::set{1}));
}

TEST(Sampler, Penalties) {
  {
    Sampler sampler({.repetition_penalty = 2}, 3);
    sampler.see(std::vector<int32_t>{0});
    EXPECT_EQ(sampler.pick(std::vector<float>{3, 2, -1}), 1);       // 3 / 2 < 2
    EXPECT_EQ(sampler.pick(std::vector<float>{-1, -1, -1.5f}), 2);  // both seen: −2, −2
  }
  {
    Sampler sampler({.presence_penalty = 1.5}, 2);
    sampler.see(std::vector<int32_t>{0});  // a prompt's token does not count
    EXPECT_EQ(sampler.pick(std::vector<float>{2, 1}), 0);
    EXPECT_EQ(sampler.pick(std::vector<float>{2, 1}), 1);
    EXPECT_EQ(sampler.pick(std::vector<float>{2, 1}), 0);
  }
  {
    Sampler sampler({.frequency_penalty = 0.6}, 2);
    const std::vector<float> logits{2, 1};
    std::vector<int32_t> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(sampler.pick(logits));
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 0, 1, 0}));  // 2, 1.4, then 0.8 against 1, then 0.8 against 0.4
  }
  Sampler biased({.bias = {{1, 5.f}, {0, -3.f}}}, 3);
  EXPECT_EQ(biased.pick(std::vector<float>{4, 0, 2}), 1);
}

TEST(Sampler, TheSeedDecides) {
  const std::vector<float> logits(50, 0.f);
  const auto run = [&](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed}, 50);
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.pick(logits));
    return ids;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

TEST(Sampler, RefusesNonsense) {
  EXPECT_THROW(Sampler({.temperature = -1}, 4), Error);
  EXPECT_THROW(Sampler({.top_p = 1.5}, 4), Error);
  EXPECT_THROW(Sampler({.min_p = NAN}, 4), Error);
  EXPECT_THROW(Sampler({.bias = {{4, 1.f}}}, 4), Error);
  Sampler sampler({}, 2);
  EXPECT_THROW(sampler.pick(std::vector<float>{1, NAN}), Error);
}

}  // namespace
}  // namespace flashrt
