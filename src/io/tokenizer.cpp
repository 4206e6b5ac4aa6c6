// Chooses the kind of tokenizer file and answers through it.
#include "io/tokenizer.h"

#include <filesystem>
#include <variant>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/json.h"
#include "io/sentencepiece.h"
#include "io/tokenizer_files.h"
#include "io/tokenizer_json.h"

namespace flashrt {

namespace {

constexpr size_t kMaxFileBytes = 64 << 20, kMaxTextBytes = 64 << 20;
constexpr JsonLimits kLimits{.bytes = kMaxFileBytes, .depth = 32};

}  // namespace

struct Tokenizer::State {
  std::variant<SentencePiece, JsonTokenizer> kind;
  int bos = -1, eos = -1, pad = -1;
  std::vector<int32_t> prefix, suffix;

  const SentencePiece* sentencepiece() const { return std::get_if<SentencePiece>(&kind); }
  const JsonTokenizer& json() const { return std::get<JsonTokenizer>(kind); }
  int find(std::string_view token) const {
    return sentencepiece() ? sentencepiece()->find(token) : json().find(token);
  }
  // The first of the usual names that the vocabulary has.
  int guess(std::initializer_list<std::string_view> names) const {
    for (const std::string_view name : names) {
      if (const int id = find(name); id >= 0) return id;
    }
    return -1;
  }
  void apply_config(const JsonNode& config);
  void encode(std::string_view text, bool special, EncodeScratch& scratch, std::vector<int32_t>& ids) const;
};

// tokenizer_config.json: `bos_token` and its like are a string or {"content": …}; `add_bos_token` puts it in
// front where the tokenizer file itself says nothing.
void Tokenizer::State::apply_config(const JsonNode& config) {
  const auto named = [&](const char* key, int& id) {
    const auto node = config.find(key);
    if (!node) return;
    const std::string& text = node->is_object() ? node->at("content").text() : node->text();
    id = find(text);
    if (id < 0) fail("{}: {}: the token {} is not in the vocabulary", config.source(), node->pointer(), text);
  };
  named("bos_token", bos);
  named("eos_token", eos);
  named("pad_token", pad);
  if (config.boolean_or("add_bos_token", false) && bos >= 0 && prefix.empty()) prefix = {bos};
  if (config.boolean_or("add_eos_token", false) && eos >= 0 && suffix.empty()) suffix = {eos};
}

Tokenizer Tokenizer::from_sentencepiece(std::string_view bytes, const std::string& source) {
  if (bytes.size() > kMaxFileBytes) fail("{}: {} bytes, limit {}", source, bytes.size(), kMaxFileBytes);
  auto state = std::make_shared<State>(State{SentencePiece(bytes, source)});
  state->bos = state->sentencepiece()->bos();
  state->eos = state->sentencepiece()->eos();
  state->pad = state->sentencepiece()->pad();
  if (state->bos >= 0) state->prefix = {state->bos};
  Tokenizer tokenizer;
  tokenizer.state_ = std::move(state);
  return tokenizer;
}

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& source) {
  const JsonDocument document(text, source, kLimits);
  auto state = std::make_shared<State>(State{JsonTokenizer(document.root())});
  state->bos = state->guess({"<bos>", "<s>", "<|begin_of_text|>", "<|startoftext|>"});
  state->eos = state->guess({"<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"});
  state->pad = state->guess({"<pad>", "<|pad|>"});
  state->prefix = state->json().before();
  state->suffix = state->json().after();
  Tokenizer tokenizer;
  tokenizer.state_ = std::move(state);
  return tokenizer;
}

Tokenizer Tokenizer::load(const std::string& path) {
  namespace fs = std::filesystem;
  fs::path file = path;
  if (fs::is_directory(file)) {
    file.clear();
    for (const char* name : {"tokenizer.json", "tokenizer.model", "paligemma_tokenizer.model"}) {
      if (file.empty() && fs::exists(fs::path(path) / name)) file = fs::path(path) / name;
    }
    const bool pair = fs::exists(fs::path(path) / "vocab.json") && fs::exists(fs::path(path) / "merges.txt");
    if (file.empty() && pair) file = fs::path(path) / "vocab.json";
    if (file.empty()) {
      fail("{}: holds no tokenizer: expected tokenizer.json, tokenizer.model, or vocab.json and merges.txt",
           path);
    }
  }
  const fs::path folder = file.parent_path();
  const bool pair = file.filename() == "vocab.json";
  const std::string bytes =
      pair ? tokenizer_json_of_files(folder) : read_text_file(file.string(), kMaxFileBytes);
  const std::string source = file.string() + (pair ? " and merges.txt" : "");
  const bool json = pair || file.extension() == ".json" || bytes.starts_with('{');
  Tokenizer tokenizer = json ? from_json(bytes, source) : from_sentencepiece(bytes, source);
  const fs::path config = folder / "tokenizer_config.json";
  if (fs::exists(config)) {
    auto state = std::make_shared<State>(*tokenizer.state_);
    state->apply_config(JsonDocument::read(config.string(), kLimits).root());
    tokenizer.state_ = std::move(state);
  }
  return tokenizer;
}

void Tokenizer::State::encode(std::string_view text, bool special, EncodeScratch& scratch,
                              std::vector<int32_t>& ids) const {
  if (text.size() > kMaxTextBytes) {
    fail("cannot tokenize a text of {} bytes: the limit is {}", text.size(), kMaxTextBytes);
  }
  if (sentencepiece())
    sentencepiece()->encode(text, scratch, ids);
  else
    json().encode(text, special, scratch, ids);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  EncodeScratch scratch;
  std::vector<int32_t> ids;
  state_->encode(text, false, scratch, ids);
  return ids;
}

void Tokenizer::encode(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const {
  state_->encode(text, false, scratch, ids);
}

std::vector<int32_t> Tokenizer::encode_with_special(std::string_view text) const {
  EncodeScratch scratch;
  std::vector<int32_t> ids;
  state_->encode(text, true, scratch, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_special) const {
  return state_->sentencepiece() ? state_->sentencepiece()->decode(ids)
                                 : state_->json().decode(ids, !with_special);
}

int Tokenizer::bos() const { return state_->bos; }
int Tokenizer::eos() const { return state_->eos; }
int Tokenizer::pad() const { return state_->pad; }
int Tokenizer::unk() const {
  return state_->sentencepiece() ? state_->sentencepiece()->unk() : state_->json().unk();
}
int Tokenizer::id_of(std::string_view token) const { return state_->find(token); }
std::string_view Tokenizer::token(int id) const {
  if (id < 0 || id >= vocab_size()) fail("there is no token {}: expected 0 to {}", id, vocab_size() - 1);
  return state_->sentencepiece() ? state_->sentencepiece()->piece(id) : state_->json().token(id);
}
bool Tokenizer::is_special(int id) const {
  if (id < 0 || id >= vocab_size()) return false;
  return state_->sentencepiece() ? state_->sentencepiece()->is_control(id) : state_->json().is_special(id);
}
bool Tokenizer::is_byte(int id) const {
  if (id < 0 || id >= vocab_size()) return false;
  return state_->sentencepiece() ? state_->sentencepiece()->is_byte(id) : state_->json().is_byte(id);
}
bool Tokenizer::is_skipped(int id) const {
  if (id < 0 || id >= vocab_size() || state_->sentencepiece()) return false;
  return state_->json().is_special(id) || state_->json().token(id).empty();
}
int Tokenizer::vocab_size() const {
  return state_->sentencepiece() ? state_->sentencepiece()->vocab_size() : state_->json().vocab_size();
}
std::span<const int32_t> Tokenizer::prefix() const { return state_->prefix; }
std::span<const int32_t> Tokenizer::suffix() const { return state_->suffix; }

}  // namespace flashrt
