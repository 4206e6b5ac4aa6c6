// Language model directories, prompts and templates that are wrong: each is refused by name, and nothing
// hangs.
#include <chrono>
#include <cstring>

#include "io/tokenizer_utf8.h"
#include "tests/apps/tiny_lm.h"

namespace flashrt {
namespace {

// A copy of the tiny checkpoint with one of its JSON files changed.
fs::path with_json(const std::string& file, const std::function<void(nlohmann::json&)>& change) {
  const fs::path copy = copy_of(make_tiny_lm("good"));
  nlohmann::json document = nlohmann::json::parse(slurp(copy / file));
  change(document);
  spill(copy / file, document.dump());
  return copy;
}
std::vector<std::string> generate_from(const fs::path& directory, const std::string& prompt = "once upon") {
  return {"generate", directory, prompt, "--device", "cpu", "--max-tokens", "4"};
}

TEST(BadLanguageModel, Directory) {
  expect_refused(generate_from(scratch() / "nowhere"), {"nowhere", "directory"});
  expect_refused(generate_from(FLASHRT_TEST_DATA "/image/rgb.png"), {"rgb.png", "directory"});
  fs::create_directories(scratch() / "hollow");
  expect_refused(generate_from(scratch() / "hollow"), {"hollow", "config.json is missing"});
  for (const char* file : {"model.safetensors", "tokenizer.json"}) {
    const fs::path copy = copy_of(make_tiny_lm("good"));
    fs::remove(copy / file);
    expect_refused(generate_from(copy), {copy.filename(), file});
  }
}

TEST(BadLanguageModel, FieldsOfTheWrongType) {
  const nlohmann::json good = tiny_lm_config();
  for (const auto& [key, value] : good.items()) {
    if (key == "architectures") continue;
    for (const nlohmann::json& bad :
         {nlohmann::json("some text"), nlohmann::json::array({nullptr}), nlohmann::json(-3),
          nlohmann::json(1e300), nlohmann::json::object({{"a", 1}})}) {
      expect_refused(generate_from(with_json("config.json", [&](auto& c) { c[key] = bad; })),
                     {"config.json", key});
    }
  }
  for (const char* key :
       {"rope_scaling", "rope_theta", "hidden_act", "rms_norm_eps", "quantization_config"}) {
    expect_refused(
        generate_from(with_json("config.json", [&](auto& c) { c[key] = nlohmann::json::array({1}); })),
        {"config.json", key});
  }
  for (const char* key :
       {"eos_token_id", "repetition_penalty", "temperature", "top_k", "top_p", "do_sample"}) {
    const fs::path copy = copy_of(make_tiny_lm("good"));
    nlohmann::json document{{"do_sample", true}};
    document[key] = "hot";
    spill(copy / "generation_config.json", document.dump());
    expect_refused(generate_from(copy), {"generation_config.json", key, "hot"});
  }
  expect_refused(generate_from(with_json("tokenizer_config.json", [](auto& c) { c["eos_token"] = 5; })),
                 {"tokenizer_config.json", "eos_token", "5"});
  expect_refused(
      generate_from(with_json("tokenizer_config.json", [](auto& c) { c["eos_token"] = "<none>"; })),
      {"tokenizer_config.json", "eos_token", "<none>"});
}

TEST(BadLanguageModel, VocabularyMismatch) {
  nlohmann::json config = tiny_lm_config();
  config["vocab_size"] = 600;
  config["eos_token_id"] = 5;
  for (const char* command : {"generate", "perplexity"}) {
    const std::string text = scratch() / "words.txt";
    spill(text, "once upon a time");
    expect_refused({command, make_tiny_lm("narrow", config, config), text, "--device", "cpu"},
                   {"narrow", "tokenizer has 703", "vocab_size 600"});
  }
}

TEST(BadLanguageModel, BrokenJson) {
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    const std::string good = slurp(fs::path(make_tiny_lm("good")) / file);
    for (const std::string& bad :
         {good.substr(0, good.size() / 2), std::string(), std::string("[]"), std::string(100'000, '[')}) {
      const fs::path copy = copy_of(make_tiny_lm("good"));
      spill(copy / file, bad);
      expect_refused(generate_from(copy), {file});
    }
  }
  expect_refused(
      generate_from(with_json("tokenizer.json", [](auto& t) { t["model"]["type"] = "WordPiece"; })),
      {"tokenizer.json", "BPE", "WordPiece"});
  expect_refused(generate_from(with_json("tokenizer.json",
                                         [](auto& t) {
                                           t["model"]["merges"][0] = {"not", "there"};
                                         })),
                 {"tokenizer.json", "merges", "not"});
}

TEST(BadLanguageModel, CutWeights) {
  const fs::path copy = copy_of(make_tiny_lm("good"));
  const std::string bytes = slurp(copy / "model.safetensors");
  for (const size_t size :
       {size_t{0}, size_t{7}, size_t{8}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    spill(copy / "model.safetensors", bytes.substr(0, size));
    expect_refused(generate_from(copy), {"model.safetensors"});
  }
  fs::remove(copy / "model.safetensors");
  const std::string index = copy / "model.safetensors.index.json";
  spill(index, R"({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}})");
  expect_refused(generate_from(copy), {"index.json", "model-00001-of-00002.safetensors"});
  spill(copy / "model-00001-of-00002.safetensors", bytes.substr(0, bytes.size() - 1));
  expect_refused(generate_from(copy), {"model-00001-of-00002.safetensors"});
  spill(copy / "model-00001-of-00002.safetensors", bytes);
  spill(index, R"({"weight_map": {"model.nothing.weight": "model-00001-of-00002.safetensors"}})");
  expect_refused(generate_from(copy), {"index.json", "model.nothing.weight"});
}

TEST(BadLanguageModel, TemplatesWithoutEnd) {
  const std::string loop = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}";
  const std::string end = "{% endfor %}{% endfor %}{% endfor %}";
  const std::vector<std::pair<std::string, std::vector<std::string>>> templates = {
      {loop + end, {"steps"}},
      {loop + "x" + end, {"chat_template"}},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", {"chat_template"}},
      {"{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(9999) %}{% set ns.t = ns.t ~ ns.t %}{% "
       "endfor %}{{ ns.t }}",
       {"chat_template"}},
      {"{{ range(1000000000000) | list }}", {"chat_template", "range"}},
      {"{% for m in messages %}{{ m.role }", {"chat_template"}},
      {"{{ raise_exception('only alternating roles') }}", {"only alternating roles"}},
      {"{{ messages.nothing.there }}", {"chat_template"}},
      {std::string(300 << 10, ' '), {"chat_template"}},
  };
  for (const auto& [text, words] : templates) {
    SCOPED_TRACE(text.substr(0, 80));
    const fs::path copy = with_json("tokenizer_config.json", [&](auto& c) { c["chat_template"] = text; });
    const auto begin = std::chrono::steady_clock::now();
    const Ran ran = run_with_stdin({"chat", copy, "--device", "cpu", "--max-tokens", "2"}, "hello\n");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
    EXPECT_EQ(ran.code, 2) << ran.err;
    EXPECT_EQ(ran.out, "");
    expect_words(ran.err, words);
  }
  const fs::path copy = with_json("tokenizer_config.json", [](auto& c) { c["chat_template"] = 7; });
  const Ran ran = run_with_stdin({"chat", copy, "--device", "cpu"}, "hello\n");
  EXPECT_EQ(ran.code, 2);
  expect_words(ran.err, {"tokenizer_config.json", "chat_template", "7"});
}

TEST(BadText, NotUtf8) {
  const std::string good = make_tiny_lm("good");
  expect_refused(generate_from(good, "once \xff upon"), {"the prompt", "byte 5", "UTF-8", "0xff"});
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"cut \xe2\x82", "byte 4"}, {"\xc0\xaf", "byte 0"}, {"surrogate \xed\xa0\x80", "byte 10"}};
  for (const auto& [text, place] : cases) {
    const Ran ran = run_with_stdin({"generate", good, "-", "--device", "cpu"}, text);
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(ran.out, "");
    expect_words(ran.err, {"the prompt", "UTF-8", place});
    spill(scratch() / "bad.txt", text);
    expect_refused({"perplexity", good, scratch() / "bad.txt", "--device", "cpu"},
                   {"bad.txt", "UTF-8", place});
  }
  const Ran ran = run_with_stdin({"chat", good, "--device", "cpu", "--max-tokens", "2"}, "a\xff\nhello\n");
  EXPECT_EQ(ran.code, 2) << "a message could not be answered";
  EXPECT_FALSE(ran.out.empty()) << "the next one was";
  expect_words(ran.err, {"the message", "byte 1", "UTF-8"});
}

// Every piece that reaches the terminal is whole code points, whatever bytes the model chooses.
TEST(BadText, PiecesAreWholeCodePoints) {
  const std::string good = make_tiny_lm("good");
  for (const char* seed : {"1", "2", "3"}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_DIRECT), 0);  // one read per write
    const pid_t child = fork();
    if (child == 0) {
      dup2(ends[1], 1);
      dup2(open("/dev/null", O_WRONLY), 2);
      execl(FLASHRT_EXECUTABLE, FLASHRT_EXECUTABLE, "generate", good.c_str(), "x", "--device", "cpu",
            "--ignore-eos", "--max-tokens", "90", "--temperature", "5", "--seed", seed, nullptr);
      _exit(127);
    }
    close(ends[1]);
    std::string all;
    int pieces = 0;
    char buffer[65536];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0; ++pieces) {
      const std::string_view piece(buffer, size_t(n));
      EXPECT_TRUE(is_valid_utf8(piece)) << pieces;
      all += piece;
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_GT(pieces, 20);
    EXPECT_NE(all.find(kReplacementText), all.npos) << "the model chose bytes that are no text";
  }
}

TEST(BadText, PromptsAndContexts) {
  const std::string good = make_tiny_lm("good");
  std::string tall;
  for (int i = 0; i < 200; ++i) tall += "once upon a time ";
  expect_refused(generate_from(good, tall), {"the prompt has", "tokens", "context holds 96"});
  expect_refused(generate_from(good, ""), {"prompt is empty"});
  expect_refused(with(generate_from(good), {"--context", "-1"}), {"--context"});
  expect_refused(with(generate_from(good), {"--context", "lots"}), {"--context", "lots"});
  expect_refused(with(generate_from(good), {"--max-tokens", "0"}), {"--max-tokens"});
  expect_refused(with(generate_from(good), {"--top-p", "2"}), {"top-p"});
  expect_refused(with(generate_from(good), {"--logit-bias", "100000=1"}), {"100000"});
  const Ran silent = run_with_stdin({"chat", good, "--device", "cpu"}, "");
  EXPECT_EQ(silent.code, 0) << silent.err;
  EXPECT_EQ(silent.out, "");
}

TEST(BadText, Perplexity) {
  const std::string good = make_tiny_lm("good"), text = scratch() / "text.txt";
  spill(text, "once upon a time there was a fox, and the fox had a red cube");
  const std::vector<std::string> arguments{"perplexity", good, text, "--device", "cpu", "--json"};
  const auto whole = flashrt_run(arguments).json();
  EXPECT_EQ(whole["scored"].get<int>() + 1, whole["tokens"].get<int>());
  EXPECT_EQ(whole["windows"], 1);
  EXPECT_GT(flashrt_run(with(arguments, {"--context", "8", "--stride", "4"})).json()["windows"], 2);
  expect_refused(with(arguments, {"--context", "8", "--stride", "9"}), {"--stride", "8", "9"});
  expect_refused(with(arguments, {"--context", "1"}), {"--context", "2", "1"});
  expect_refused({"perplexity", good, scratch() / "absent.txt", "--device", "cpu"}, {"absent.txt"});
  spill(text, "");
  expect_refused(arguments, {"tokens", "at least 2"});
}

}  // namespace
}  // namespace flashrt
