// flashrt generate, chat and verify of language models, from a tiny random checkpoint with a tokenizer.
#include <csignal>

#include "tests/apps/tiny_lm.h"

namespace flashrt {
namespace {

const std::string kLm = FLASHRT_TEST_DATA "/lm/";

std::vector<std::string> generate_command(std::vector<std::string> more,
                                          const std::string& prompt = "once upon") {
  std::vector<std::string> arguments{"generate", make_tiny_lm("qwen"), prompt, "--device",
                                     "cpu",      "--max-tokens",       "12"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Runs `flashrt chat` with these lines on stdin.
Ran chat(const std::string& lines, std::vector<std::string> more = {}) {
  return run_with_stdin(with({"chat", make_tiny_lm("qwen"), "--device", "cpu"}, more), lines);
}

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(nlohmann::json::parse(line, nullptr, false));
  return lines;
}

TEST(Text, StreamsWhatJsonSays) {
  const Ran streamed = flashrt_run(generate_command({"--ignore-eos"}));
  const auto json = flashrt_run(generate_command({"--ignore-eos", "--json", "--logprobs"})).json();
  EXPECT_EQ(streamed.code, 0) << streamed.err;
  EXPECT_EQ(streamed.out, json["text"].get<std::string>() + "\n");
  EXPECT_EQ(json["tokens"].size(), 12u);
  EXPECT_EQ(json["log_probabilities"].size(), 12u);
  EXPECT_EQ(json["stop"], "token_limit");
  EXPECT_GT(json["prompt_tokens"], 1);
}

TEST(Text, SamplingRepeatsWithItsSeed) {
  const auto tokens = [](const char* seed) {
    return flashrt_run(generate_command({"--json", "--ignore-eos", "--temperature", "1.5", "--seed", seed}))
        .json()["tokens"];
  };
  EXPECT_EQ(tokens("1"), tokens("1"));
  EXPECT_NE(tokens("1"), tokens("2"));
}

TEST(Text, StopStringsAndEndTokens) {
  const auto whole = flashrt_run(generate_command({"--json", "--ignore-eos"})).json();
  const std::string text = whole["text"];
  ASSERT_GT(text.size(), 6u);
  size_t begin = 3;
  while ((text[begin] & 0xc0) == 0x80) ++begin;
  size_t end = begin + 1;
  while (end < text.size() && (text[end] & 0xc0) == 0x80) ++end;
  const std::string stop = text.substr(begin, end - begin);
  const auto stopped = flashrt_run(generate_command({"--json", "--ignore-eos", "--stop", stop})).json();
  EXPECT_EQ(stopped["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(stopped["stop"], "stop_string");
  // The end token, forced: nothing is answered.
  const auto ended = flashrt_run(generate_command({"--json", "--logit-bias", "700=1000"})).json();
  EXPECT_EQ(ended["stop"], "end_token");
  EXPECT_EQ(ended["text"], "");
}

TEST(Text, AFullContextIsAClearStop) {
  const Ran ran = flashrt_run(generate_command({"--json", "--ignore-eos", "--context", "10"}));
  EXPECT_EQ(ran.code, 0);
  const auto json = ran.json();
  EXPECT_EQ(json["stop"], "context_full");
  EXPECT_EQ(json["prompt_tokens"].get<size_t>() + json["tokens"].size(), 11u);  // the last one needs no place
  expect_words(ran.err, {"context of 10 tokens is full"});
}

TEST(Text, ChatRemembersAndReusesThePrefix) {
  const Ran ran = chat("hello\nand then?\n/reset\nhello\n", {"--json", "--max-tokens", "4"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const auto answers = json_lines(ran.out);
  ASSERT_EQ(answers.size(), 3u) << ran.out;
  EXPECT_EQ(answers[0]["reused_tokens"], 0);
  EXPECT_GE(answers[1]["reused_tokens"], answers[0]["prompt_tokens"]);
  EXPECT_EQ(answers[2]["tokens"], answers[0]["tokens"]);
  EXPECT_EQ(answers[2]["reused_tokens"].get<int>() + 1, answers[2]["prompt_tokens"].get<int>());
}

TEST(Text, ChatRefusesAndGoesOn) {
  const std::string tall(400, 'x');
  const Ran ran = chat("hello\n" + tall + "\n/nonsense\n/help\nhello\n", {"--max-tokens", "2"});
  EXPECT_EQ(ran.code, 2);
  expect_words(ran.err, {"the conversation has", "the context holds 96", "/nonsense"});
  expect_words(ran.out, {"/reset"});
}

TEST(Text, CtrlCEndsTheAnswer) {
  const std::string checkpoint = make_tiny_lm("endless", [] {
    nlohmann::json config = tiny_lm_config();
    config["max_position_embeddings"] = 4000000;
    return config;
  }());
  const fs::path out = scratch() / "interrupted";
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    dup2(open("/dev/null", O_WRONLY), 2);
    execl(FLASHRT_EXECUTABLE, FLASHRT_EXECUTABLE, "generate", checkpoint.c_str(), "x", "--device", "cpu",
          "--ignore-eos", "--max-tokens", "1000000000", "--context", "200000", nullptr);
    _exit(127);
  }
  int status = 0;
  while (!fs::exists(out) || fs::file_size(out) == 0) {  // until it answers
    ASSERT_EQ(waitpid(child, &status, WNOHANG), 0) << "it ended by itself";
    usleep(1000);
  }
  kill(child, SIGINT);
  waitpid(child, &status, 0);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 130);
  EXPECT_EQ(slurp(out).back(), '\n');
}

TEST(Text, VerifyComparesLogitsAndGreedyTokens) {
  const std::string model = kLm + "mistral_window", good = model + "/case.safetensors";
  const Ran ran = flashrt_run({"verify", model, good, "--json", "--device", "cpu"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.json()["outputs"]["greedy"]["equal"], 24);
  EXPECT_EQ(flashrt_run({"verify", model, good, "--tol", "1e-12", "--device", "cpu"}).code, 1);
  // Another model of the same vocabulary: neither the logits nor the tokens.
  EXPECT_EQ(flashrt_run({"verify", kLm + "llama_linear", good, "--device", "cpu"}).code, 1);
  expect_refused({"verify", make_tiny_lm("qwen"), good, "--device", "cpu"}, {"out.logits", "704", "61"});
}

TEST(Text, BadInputIsRefused) {
  const auto variant = [](const char* name, auto&& change) {
    nlohmann::json config = tiny_lm_config();
    change(config);
    return std::vector<std::string>{"generate", make_tiny_lm(name, config), "x", "--device", "cpu"};
  };
  expect_refused(variant("other", [](auto& c) { c["model_type"] = "mamba"; }),
                 {"config.json", "model_type", "mamba"});
  expect_refused(variant("quantised",
                         [](auto& c) {
                           c["quantization_config"] = {{"quant_method", "hqq"}};
                         }),
                 {"config.json", "quantization_config/quant_method", "one of gptq", "hqq"});
  expect_refused(variant("wide", [](auto& c) { c["hidden_size"] = 32; }),
                 {"do not fit", "[704, 16]", "[704, 32]"});
  expect_refused(variant("deep", [](auto& c) { c["num_hidden_layers"] = 2; }),
                 {"missing", "model.layers.1."});
  expect_refused(variant("untied", [](auto& c) { c["tie_word_embeddings"] = false; }),
                 {"missing", "lm_head.weight"});
  expect_refused(variant("stretched",
                         [](auto& c) {
                           c["rope_scaling"] = {{"type", "longrope"}, {"factor", 2.0}};
                         }),
                 {"rope_scaling", "longrope"});
  const std::string bare = make_tiny_lm("bare");
  fs::remove(fs::path(bare) / "tokenizer.json");
  expect_refused({"generate", bare, "x", "--device", "cpu"}, {"tokenizer"});
  const std::string mute = make_tiny_lm("mute");
  spill(fs::path(mute) / "tokenizer_config.json", "{}");
  expect_refused({"chat", mute, "--device", "cpu"}, {"chat_template"});
  expect_refused(generate_command({"--context", "2"}, "a prompt that is longer"),
                 {"the prompt has", "context holds 2"});
  expect_refused(generate_command({"--temperature", "-1"}), {"temperature"});
  expect_refused(generate_command({"--logit-bias", "5"}), {"--logit-bias", "id=value"});
  expect_refused(generate_command({"--stop", "\xff"}), {"--stop", "UTF-8"});
  expect_refused(generate_command({}, ""), {"prompt is empty"});
}

}  // namespace
}  // namespace flashrt
