// Drawing a token: the filters by hand-made logits, frequencies by counting, the seed by repetition. The
// options reach the op as the runtime writes them.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "base/error.h"
#include "ops/sample.h"

namespace flashrt {
namespace {

template <class T>
std::span<T> as(std::span<std::byte> bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// The op by itself.
class Drawing {
 public:
  Drawing(SamplerOptions options, int64_t vocab, std::vector<int32_t> prompt = {})
      : executor_(record(vocab)) {
    const Sampler sampler(std::move(options), vocab);
    sampler.fill_bias(as<float>(executor_.input("bias")));
    Sampler::fill_seen(prompt, as<int32_t>(executor_.input("seen")));
    const SamplingSettings settings = sampler.settings();
    std::memcpy(executor_.input("sampling").data(), &settings, sizeof settings);
    as<int32_t>(executor_.input("position"))[0] = 0;
  }
  int32_t pick(const std::vector<float>& logits) {
    std::ranges::copy(logits, as<float>(executor_.input("logits")).begin());
    executor_.run();
    EXPECT_EQ(as<int32_t>(executor_.input("position"))[0], ++picked_);
    int32_t token = 0;
    std::memcpy(&token, executor_.output("token").data(), sizeof token);
    return token;
  }
  float log_probability() const {
    float value = 0;
    std::memcpy(&value, executor_.output("log_probability").data(), sizeof value);
    return value;
  }

 private:
  Program& record(int64_t vocab) {
    const Tensor logits = program_.input("logits", {1, vocab}, DType::f32);
    const NextToken next =
        sample(logits, program_.input("bias", {1, vocab}, DType::f32),
               program_.input("seen", {1, vocab}, DType::i32),
               program_.input("sampling", {1, kSamplingWords}, DType::i32),
               program_.input("ids", {1, 1}, DType::i32), program_.input("position", {1, 1}, DType::i32));
    program_.output("token", next.token);
    program_.output("log_probability", next.log_probability);
    return program_;
  }

  Program program_;
  ReferenceExecutor executor_;
  int32_t picked_ = 0;
};

std::vector<int> histogram(SamplerOptions options, const std::vector<float>& logits, int draws = 4000) {
  std::vector<int> counts(logits.size(), 0);
  Drawing drawing(options, int64_t(logits.size()));
  for (int i = 0; i < draws; ++i) ++counts[size_t(drawing.pick(logits))];
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
  Drawing sampler({}, 4);
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
    Drawing sampler({.repetition_penalty = 2}, 3, {0});
    EXPECT_EQ(sampler.pick(std::vector<float>{3, 2, -1}), 1);       // 3 / 2 < 2
    EXPECT_EQ(sampler.pick(std::vector<float>{-1, -1, -1.5f}), 2);  // both seen: −2, −2
  }
  {
    Drawing sampler({.presence_penalty = 1.5}, 2, {0});  // a prompt's token does not count
    EXPECT_EQ(sampler.pick(std::vector<float>{2, 1}), 0);
    EXPECT_EQ(sampler.pick(std::vector<float>{2, 1}), 1);
    EXPECT_EQ(sampler.pick(std::vector<float>{2, 1}), 0);
  }
  {
    Drawing sampler({.frequency_penalty = 0.6}, 2);
    const std::vector<float> logits{2, 1};
    std::vector<int32_t> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(sampler.pick(logits));
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 0, 1, 0}));  // 2, 1.4, then 0.8 against 1, then 0.8 against 0.4
  }
  Drawing biased({.bias = {{1, 5.f}, {0, -3.f}}}, 3);
  EXPECT_EQ(biased.pick(std::vector<float>{4, 0, 2}), 1);
}

TEST(Sampler, TheSeedDecides) {
  const std::vector<float> logits(50, 0.f);
  const auto run = [&](uint64_t seed) {
    Drawing sampler({.temperature = 1, .seed = seed}, 50);
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.pick(logits));
    return ids;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

TEST(Sampler, EqualLogitsAtAThreshold) {
  const std::vector<float> logits{0, 1, 0, 1, 0, 0};
  EXPECT_EQ(support({.temperature = 1, .top_k = 3}, logits), (std::set{0, 1, 3}))
      << "the first of equal ones";
  EXPECT_EQ(support({.temperature = 1, .top_p = 0.6}, logits),
            (std::set{0, 1, 3}));  // 0.287 each, then 0.106
  EXPECT_EQ(support({.temperature = 1}, {-INFINITY, 2, -INFINITY}), (std::set{1}));
}

TEST(Sampler, LogitsThatAreNoNumbers) {
  EXPECT_EQ(Drawing({.temperature = 1}, 2).pick({1, NAN}), -1);
  EXPECT_EQ(Drawing({.temperature = 1}, 2).pick({INFINITY, 0}), -1);
  EXPECT_EQ(Drawing({.temperature = 1}, 2).pick({-INFINITY, -INFINITY}), 0);
}

TEST(Sampler, WeightsAreTheExponential) {
  for (float temperature : {0.3f, 1.f, 1.7f}) {
    const float scale = Sampler({.temperature = temperature}, 1).settings().scale;
    for (float below = 0; below < 25 * temperature; below += 0.0137f) {
      const double want = 0x1p44 * std::exp(-double(below) / temperature);
      EXPECT_NEAR(double(candidate_weight(3.f - below, 3.f, scale)), want, want * 4e-6 + 1) << below;
    }
  }
  EXPECT_EQ(candidate_weight(-INFINITY, 0, 1e9f), 0u);
  EXPECT_EQ(candidate_weight(5, 5, 1e30f), kLargestWeight);
}

TEST(Sampler, RefusesNonsense) {
  EXPECT_THROW(Sampler({.temperature = -1}, 4), Error);
  EXPECT_THROW(Sampler({.top_p = 1.5}, 4), Error);
  EXPECT_THROW(Sampler({.min_p = NAN}, 4), Error);
  EXPECT_THROW(Sampler({.bias = {{4, 1.f}}}, 4), Error);
}

}  // namespace
}  // namespace flashrt
