// Prompt templates, byte for byte, on a tokenizer with the structure of PaliGemma's.
#include "io/prompt.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>

#include "base/error.h"

namespace {
std::atomic<int> g_allocations = 0;
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++g_allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace flashrt {
namespace {

const std::string kModel = FLASHRT_TEST_DATA "/tokenizer/gemma_like.model";

PromptEncoder encoder(PromptRule rule, bool with_state, int64_t max_tokens = 200) {
  PolicyConfig config;
  config.prompt = rule;
  config.state_in_prompt = with_state;
  config.max_prompt_tokens = max_tokens;
  return {Tokenizer::load(kModel), config};
}

std::vector<int32_t> ids_of(std::initializer_list<std::string_view> texts) {
  const Tokenizer tokenizer = Tokenizer::load(kModel);
  std::vector<int32_t> ids{2};
  for (const std::string_view text : texts) {
    const auto part = tokenizer.encode(text);
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

std::vector<int32_t> run(PromptEncoder e, std::string_view text, std::vector<float> state = {}) {
  e.set_text(text);
  const auto ids = e.encode(state);
  return {ids.begin(), ids.end()};
}

TEST(Prompt, OpenpiCleansAndEncodesTheLineEndApart) {
  EXPECT_EQ(run(encoder(PromptRule::openpi, false), " \t pick_up the\nRed cube\n "),
            ids_of({"pick up the Red cube", "\n"}));
  // Unicode white space and the ASCII separators are stripped, as Python does.
  EXPECT_EQ(run(encoder(PromptRule::openpi, false),
                "\u3000\x1c"
                "go\u00a0\x1f"),
            ids_of({"go", "\n"}));
}

TEST(Prompt, LeRobotKeepsTheTextAndEncodesItWhole) {
  for (const PromptRule rule : {PromptRule::lerobot, PromptRule::transformers}) {
    EXPECT_EQ(run(encoder(rule, false), " pick_up "), ids_of({" pick_up \n"}));
    EXPECT_EQ(run(encoder(rule, false), "pick up\n"), ids_of({"pick up\n"}));
  }
}

TEST(Prompt, Pi05HoldsTheStateAsBins) {
  for (const PromptRule rule : {PromptRule::openpi, PromptRule::lerobot}) {
    EXPECT_EQ(run(encoder(rule, true), "fold_the towel ", {-1.5f, -1.0f, 0.0f, 0.9999f, 3.0f}),
              ids_of({"Task: fold the towel, State: -1 0 128 255 255;\nAction: "}));
  }
}

TEST(Prompt, TheStateChangesBetweenCallsAndTheTextStays) {
  PromptEncoder e = encoder(PromptRule::openpi, true);
  e.set_text("go");
  for (const float x : {0.0f, 0.5f, -0.5f}) {
    const auto ids = e.encode(std::vector<float>{x});
    const auto expected = ids_of({fmt::format("Task: go, State: {};\nAction: ", 128 + int(x * 128))});
    EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), expected);
  }
}

TEST(Prompt, TooLongIsCutAtTheEnd) {
  PromptEncoder e = encoder(PromptRule::openpi, false, 6);
  e.set_text("pick up the red cube and place it in the blue bowl");
  const auto whole = ids_of({"pick up the red cube and place it in the blue bowl", "\n"});
  const auto ids = e.encode();
  EXPECT_TRUE(e.truncated());
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()),
            std::vector<int32_t>(whole.begin(), whole.begin() + 6));
  e.set_text("go");
  EXPECT_LE(e.encode().size(), 6u);
  EXPECT_FALSE(e.truncated());
}

TEST(Prompt, ANewStateAllocatesNothing) {
  for (const char* name : {"gemma_like.model", "gemma_like.json", "llama_like.json"}) {
    PolicyConfig config;
    config.prompt = PromptRule::openpi;
    config.state_in_prompt = true;
    config.max_prompt_tokens = 400;
    PromptEncoder e(Tokenizer::load(FLASHRT_TEST_DATA "/tokenizer/" + std::string(name)), config);
    e.set_text("fold the towel, überaus ordentlich 折り紙");
    std::vector<float> state(32);
    for (int step = 0; step < 300; ++step) {
      for (size_t i = 0; i < state.size(); ++i)
        state[i] = float((step * 37 + int(i) * 101) % 260) / 128 - 1.01f;
      const int before = g_allocations;
      e.encode(state);
      ASSERT_EQ(g_allocations, before) << name << " step " << step;
    }
    EXPECT_FALSE(e.truncated());
  }
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    return e.what();
  }
  return "no error";
}

TEST(Prompt, RefusesBadInput) {
  for (const bool with_state : {false, true}) {
    PromptEncoder e = encoder(PromptRule::lerobot, with_state);
    for (const char* text : {"", " ", "\n\t", "\u3000"}) {
      EXPECT_EQ(error_of([&] { e.set_text(text); }), "the prompt is empty: say what the robot should do");
    }
  }
  PromptEncoder e = encoder(PromptRule::openpi, true);
  e.set_text("go");
  EXPECT_EQ(error_of([&] {
              e.encode(std::vector<float>{0, std::numeric_limits<float>::infinity()});
            }),
            "state[1] is not finite: inf");
  PolicyConfig small;
  small.vocab = 100;
  PromptEncoder other(Tokenizer::load(kModel), small);
  EXPECT_NE(error_of([&] { other.set_text("go"); }).find("but the checkpoint only knows 100"),
            std::string::npos);
}

}  // namespace
}  // namespace flashrt
