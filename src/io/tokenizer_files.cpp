// Joins vocab.json, merges.txt and the lists of added tokens into one tokenizer.json.
#include "io/tokenizer_files.h"

#include <filesystem>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/json.h"

namespace flashrt {

namespace {

namespace fs = std::filesystem;

constexpr JsonLimits kLimits{.bytes = 64 << 20, .depth = 32};

// Words of both: contractions, runs of letters, digits or other marks, spaces.
constexpr const char* kGpt2 = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":)";
constexpr const char* kQwen2 =
    R"("normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)"
    R"({"type":"Split","behavior":"Isolated","pattern":{"Regex":")"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*)"
    R"(|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},{"type":"ByteLevel","use_regex":false,"add_prefix_space":)";

struct Added {
  std::string content;
  bool special = true, lstrip = false, rstrip = false, single_word = false, normalized = false;
};
using AddedById = std::map<int64_t, Added>;

constexpr int64_t kMostIds = 1'000'000;

void read_added_decoder(const JsonNode& config, AddedById& added) {
  const auto tokens = config.find("added_tokens_decoder");
  if (!tokens) return;
  for (const auto& [id, node] : tokens->members()) {
    const bool number = !id.empty() && id.size() < 8 && id.find_first_not_of("0123456789") == id.npos;
    if (!number) node.fail_expected("an id as the key");
    added[std::stoll(std::string(id))] = {.content = node.at("content").text(),
                                          .special = node.boolean_or("special", false),
                                          .lstrip = node.boolean_or("lstrip", false),
                                          .rstrip = node.boolean_or("rstrip", false),
                                          .single_word = node.boolean_or("single_word", false),
                                          .normalized = node.boolean_or("normalized", false)};
  }
}

std::string added_json(const AddedById& added) {
  std::string out;
  for (const auto& [id, token] : added) {
    out += fmt::format(
        R"({}{{"id":{},"content":{},"special":{},"lstrip":{},"rstrip":{},"single_word":{},"normalized":{}}})",
        out.empty() ? "" : ",", id, json_quote(token.content), token.special, token.lstrip, token.rstrip,
        token.single_word, token.normalized);
  }
  return out;
}

std::string vocab_json(const JsonNode& vocab) {
  std::string out;
  for (const auto& [text, id] : vocab.members()) {
    out += fmt::format("{}{}:{}", out.empty() ? "" : ",", json_quote(text), id.integer(0, kMostIds - 1));
  }
  return out;
}

// One merge a line, "left right"; the first line may say "#version".
std::string merges_json(const std::string& path) {
  const std::string text = read_text_file(path, kLimits.bytes);
  std::string out;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin = end + 1;
    ++number;
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == 0 || space + 1 >= line.size() || line.find(' ', space + 1) != line.npos) {
      fail("{}: line {}: expected two tokens with one space between them, found {}", path, number,
           json_quote(line.substr(0, 80)));
    }
    out += fmt::format("{}{}", out.empty() ? "" : ",", json_quote(line));
  }
  return out;
}

}  // namespace

std::string tokenizer_json_of_files(const std::string& directory) {
  const fs::path root(directory);
  const auto beside = [&](const char* name) -> std::optional<JsonDocument> {
    if (!fs::exists(root / name)) return std::nullopt;
    return JsonDocument::read((root / name).string(), kLimits);
  };
  AddedById added;
  bool qwen2 = false, prefix_space = false;
  if (const auto config = beside("tokenizer_config.json")) {
    const JsonNode node = config->root();
    const std::string kind = node.text_or("tokenizer_class", "GPT2Tokenizer");
    qwen2 = kind == "Qwen2Tokenizer" || kind == "Qwen2TokenizerFast";
    if (!qwen2 && kind != "GPT2Tokenizer" && kind != "GPT2TokenizerFast") {
      node.at("tokenizer_class")
          .fail_expected("GPT2Tokenizer or Qwen2Tokenizer (others need a tokenizer.json)");
    }
    prefix_space = node.boolean_or("add_prefix_space", false);
    read_added_decoder(node, added);
  }
  if (const auto more = beside("added_tokens.json")) {
    for (const auto& [text, id] : more->root().members())
      added.try_emplace(id.integer(0, kMostIds - 1), Added{std::string(text)});
  }
  const JsonDocument vocab = JsonDocument::read((root / "vocab.json").string(), kLimits);
  if (const auto end = vocab.root().find("<|endoftext|>"))
    added.try_emplace(end->integer(0, kMostIds - 1), Added{"<|endoftext|>"});
  return fmt::format(
      R"({{"model":{{"type":"BPE","vocab":{{{}}},"merges":[{}]}},{}{}{},"decoder":{{"type":"ByteLevel"}},)"
      R"("added_tokens":[{}]}})",
      vocab_json(vocab.root()), merges_json((root / "merges.txt").string()), qwen2 ? kQwen2 : kGpt2,
      prefix_space, qwen2 ? "}]}" : "}", added_json(added));
}

}  // namespace flashrt
