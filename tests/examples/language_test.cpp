// The small language model of examples/language does what its card says, through the executable.
#include <map>

#include "tests/apps/tiny_lm.h"

namespace flashrt {
namespace {

const std::string kLanguage = FLASHRT_SOURCE "/examples/language/", kModel = kLanguage + "model";

// What the card states.
constexpr double kPerplexity = 1.72;
constexpr size_t kRight = 85, kRightBrief = 77;

std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::vector<nlohmann::json> chat(const std::string& messages, const std::vector<std::string>& more = {}) {
  const Ran ran = run_with_stdin(with({"chat", kModel, "--json", "--device", "cpu"}, more), messages);
  EXPECT_EQ(ran.code, 0) << ran.err;
  return lines_of(ran.out);
}

TEST(LanguageModel, PredictsTheHeldOutText) {
  const nlohmann::json golden = nlohmann::json::parse(slurp(FLASHRT_TEST_DATA "/lm_perplexity.json"));
  for (const auto& run : golden["text"]["runs"]) {
    const auto p = flashrt_run({"perplexity", kModel, kLanguage + "held_out/text.txt", "--json", "--device",
                                "cpu", "--context", std::to_string(run["context"].get<int>()), "--stride",
                                std::to_string(run["stride"].get<int>())})
                       .json();
    EXPECT_EQ(p["tokens"], golden["text"]["tokens"]) << "as transformers tokenizes it";
    EXPECT_NEAR(p["perplexity"].get<double>() / run["perplexity"].get<double>(), 1, 1e-4);
    EXPECT_LE(p["perplexity"], kPerplexity);
  }
}

// Questions that training never saw, by what they ask.
TEST(LanguageModel, AnswersHeldOutQuestions) {
  const auto questions = lines_of(slurp(kLanguage + "held_out/questions.jsonl"));
  for (const bool brief : {false, true}) {
    std::string messages;
    for (const auto& q : questions) messages += q["user"].get<std::string>() + "\n/reset\n";
    const auto answers = brief ? chat(messages, {"--system", "Answer in one word."}) : chat(messages);
    ASSERT_EQ(answers.size(), questions.size());
    size_t right = 0;
    std::map<std::string, int> wrong;
    for (size_t i = 0; i < questions.size(); ++i) {
      const bool ok = answers[i]["text"] == questions[i][brief ? "short" : "answer"];
      right += ok;
      wrong[questions[i]["family"]] += !ok;
      EXPECT_EQ(answers[i]["stop"], "end_token");
    }
    EXPECT_GE(right, brief ? kRightBrief : kRight)
        << "of " << questions.size() << ": " << nlohmann::json(wrong);
  }
}

TEST(LanguageModel, RemembersTheConversation) {
  const auto answers = chat(
      "Put the red cube in the bowl.\nWhere is the red cube?\nNow put it on the shelf.\nWhere is it now?\n");
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_EQ(answers[1]["text"], "The red cube is in the bowl.");
  EXPECT_EQ(answers[3]["text"], "The red cube is on the shelf.");
  EXPECT_GT(answers[3]["reused_tokens"], 40);
}

TEST(LanguageModel, TellsAStoryToItsEnd) {
  const Ran ran = flashrt_run(
      {"generate", kModel, "Once upon a time", "--device", "cpu", "--max-tokens", "300", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.json()["stop"], "end_token");
  expect_words(ran.json()["text"].get<std::string>(), {"One day", "named"});
}

}  // namespace
}  // namespace flashrt
