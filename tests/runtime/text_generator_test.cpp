// The generation loop around a tiny model: stop strings in pieces, the engine's limits, memory that does not
// grow.
#include "runtime/text_generator.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace flashrt {
namespace {

std::string filtered(const std::vector<std::string>& stop, const std::vector<std::string>& pieces) {
  StopFilter filter(stop);
  std::string text;
  for (const std::string& piece : pieces) text += filter.push(piece);
  return text + filter.finish();
}

TEST(StopFilter, EndsBeforeTheFirstStopString) {
  EXPECT_EQ(filtered({}, {"a", "b"}), "ab");
  EXPECT_EQ(filtered({"END"}, {"one E", "N", "D two"}), "one ");
  EXPECT_EQ(filtered({"END"}, {"one EN", "ding"}), "one ENding");
  EXPECT_EQ(filtered({"END"}, {"one EEN", "D"}), "one E");
  EXPECT_EQ(filtered({"two", "one"}, {"zero one two"}), "zero ");
  EXPECT_EQ(filtered({"END"}, {"tail EN"}), "tail EN");
  EXPECT_EQ(filtered({"aab"}, {"a", "a", "a", "b"}), "a");
  EXPECT_THROW(StopFilter({""}), Error);
}

TEST(StopFilter, HoldsBackOnlyWhatMayStop) {
  StopFilter filter({"END"});
  EXPECT_EQ(filter.push("one E"), "one ");
  EXPECT_EQ(filter.push("x"), "Ex");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.push("END"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("more"), "");
}

struct Tiny {
  LmCheckpoint checkpoint = load_lm_checkpoint(FLASHRT_TEST_DATA "/lm/llama_tied_biased");
  LmEngine engine{checkpoint.config, checkpoint_weights(checkpoint), Backend::open("cpu", Precision::f32),
                  40};
};

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    return e.what();
  }
  return "";
}

TEST(LmEngine, RefusesWhatDoesNotFit) {
  Tiny tiny;
  EXPECT_NE(error_of([&] { tiny.engine.extend({}); }).find("empty"), std::string::npos);
  EXPECT_NE(error_of([&] { tiny.engine.extend(std::vector<int32_t>{1, 61}); }).find("61"), std::string::npos);
  EXPECT_NE(error_of([&] { tiny.engine.extend(std::vector<int32_t>(41, 5)); }).find("context of 40"),
            std::string::npos);
  EXPECT_EQ(tiny.engine.position(), 0);
  tiny.engine.extend(std::vector<int32_t>(40, 5));
  EXPECT_EQ(tiny.engine.position(), 40);
  EXPECT_NE(error_of([&] { tiny.engine.extend(std::vector<int32_t>{5}); }).find("after 40"),
            std::string::npos);
}

TEST(LmEngine, APromptThatBeginsAlikeIsReused) {
  Tiny tiny;
  const Tokenizer tokenizer = Tokenizer::load(FLASHRT_TEST_DATA "/tokenizer/byte_qwen.json");
  const TextOptions options{.max_tokens = 3};
  const std::vector<int32_t> first{5, 6, 7, 8}, second{5, 6, 9};
  const TextResult a = generate(tiny.engine, tokenizer, first, options);
  EXPECT_EQ(a.reused_tokens, 0);
  EXPECT_EQ(a.ids.size(), 3u);
  EXPECT_EQ(generate(tiny.engine, tokenizer, second, options).reused_tokens, 2);
  const TextResult again = generate(tiny.engine, tokenizer, first, options);
  EXPECT_EQ(again.reused_tokens, 2);
  EXPECT_EQ(again.ids, a.ids);
  EXPECT_EQ(generate(tiny.engine, tokenizer, first, options).reused_tokens, 3)
      << "the last token gives the logits";
}

TEST(LmEngine, ChosenTokensAreThoseOfTheLogits) {
  Tiny plain, chosen;
  const std::vector<int32_t> prompt{5, 6, 7};
  std::span<const float> logits = plain.engine.extend(prompt);
  chosen.engine.begin(prompt);
  for (int i = 0; i < 20; ++i) {
    const int32_t want = int32_t(std::ranges::max_element(logits) - logits.begin());
    double sum = 0;
    for (float l : logits) sum += std::exp(double(l) - logits[size_t(want)]);
    const LmEngine::Chosen got = chosen.engine.next(true);
    EXPECT_EQ(got.id, want) << i;
    EXPECT_NEAR(got.log_probability, -std::log(sum), 1e-5);
    EXPECT_TRUE(got.more);
    logits = plain.engine.extend({&want, 1});
  }
  EXPECT_EQ(std::vector(chosen.engine.tokens().begin(), chosen.engine.tokens().end()),
            std::vector(plain.engine.tokens().begin(), plain.engine.tokens().end()));
}

// A drawn answer: the same for a seed, whatever the cache held before and wherever the prompt was cut.
TEST(LmEngine, DrawnTokensFollowSeedAndPosition) {
  const auto answer = [](LmEngine& engine, std::span<const int32_t> prompt, uint64_t seed) {
    const Sampler sampler({.temperature = 2, .repetition_penalty = 1.1, .seed = seed}, engine.config().vocab);
    engine.begin(prompt.subspan(size_t(engine.position())), sampler, prompt);
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(engine.next(true).id);
    engine.end();
    return ids;
  };
  Tiny tiny;
  const std::vector<int32_t> prompt{5, 6, 7};
  const std::vector<int32_t> first = answer(tiny.engine, prompt, 1);
  tiny.engine.rewind(2);
  EXPECT_EQ(answer(tiny.engine, prompt, 1), first);
  tiny.engine.rewind(0);
  EXPECT_NE(answer(tiny.engine, prompt, 2), first);
}

TEST(LmEngine, TheLikeliestEndWithTheContext) {
  Tiny tiny;
  tiny.engine.begin(std::vector<int32_t>(38, 5));
  EXPECT_TRUE(tiny.engine.next(true).more);
  EXPECT_TRUE(tiny.engine.next(true).more);
  EXPECT_FALSE(tiny.engine.next(true).more) << "40 tokens are in the cache";
  EXPECT_EQ(tiny.engine.position(), 40);
  tiny.engine.rewind(3);
  tiny.engine.begin(std::vector<int32_t>{6});
  EXPECT_FALSE(tiny.engine.next(false).more);
  EXPECT_EQ(tiny.engine.position(), 4);
}

int64_t resident_pages() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident;
}

TEST(LmEngine, TenThousandTokensDoNotGrow) {
  Tiny tiny;
  const Sampler sampler({.temperature = 1, .top_p = 0.9}, tiny.checkpoint.config.vocab);
  const std::vector<int32_t> prompt{5};
  const auto answer = [&](int tokens) {
    for (int i = 0; i < tokens;) {
      tiny.engine.rewind(0);
      tiny.engine.begin(prompt, sampler, prompt);
      while (tiny.engine.next(i + 1 < tokens).more) ++i;
      ++i;
    }
    tiny.engine.rewind(0);
  };
  answer(100);
  const int64_t before = resident_pages();
  answer(10000);
  EXPECT_LE(resident_pages() - before, 64) << "pages";
}

TEST(LmEngine, CancelEndsTheAnswer) {
  Tiny tiny;
  const Tokenizer tokenizer = Tokenizer::load(FLASHRT_TEST_DATA "/tokenizer/byte_qwen.json");
  const std::atomic<bool> cancel{true};
  const std::vector<int32_t> prompt{5};
  const TextResult r = generate(tiny.engine, tokenizer, prompt, {.max_tokens = 9}, {}, &cancel);
  EXPECT_EQ(r.reason, StopReason::cancelled);
  EXPECT_EQ(r.ids.size(), 1u);
}

}  // namespace
}  // namespace flashrt
