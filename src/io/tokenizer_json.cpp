// Loader and pipeline of tokenizer.json: added tokens, normaliser, pre-tokenizer, BPE, decoder.
#include "io/tokenizer_json.h"

#include "base/error.h"
#include "io/bpe_merge.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {
constexpr int64_t kMaxVocab = 1'000'000;
constexpr size_t kMaxMerges = 2'000'000, kMaxPieceBytes = 64 << 10;
}  // namespace

JsonTokenizer::JsonTokenizer(const JsonNode& root) : source_(root.source()) {
  if (const auto node = root.find("normalizer")) normalizer_ = TextNormalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) pre_tokenizer_ = PreTokenizer(*node);
  if (const auto node = root.find("decoder")) decoder_ = TokenDecoder(*node);
  read_model(root.at("model"));
  if (const auto node = root.find("added_tokens")) read_added(*node);
  if (const auto node = root.find("post_processor")) read_post_processor(*node);
}

void JsonTokenizer::read_model(const JsonNode& model) {
  if (const std::string type = model.text_or("type", "BPE"); type != "BPE") {
    fail("{}: /model/type: expected \"BPE\", found {}", source_, json_quote(type));
  }
  if (model.number_or("dropout", 0, 0, 1) != 0)
    fail("{}: /model/dropout: random merges are not supported", source_);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.text_or(key, "").empty()) fail("{}: /model/{}: not supported", source_, key);
  }
  byte_fallback_ = model.boolean_or("byte_fallback", false);
  fuse_unk_ = model.boolean_or("fuse_unk", false);
  ignore_merges_ = model.boolean_or("ignore_merges", false);
  read_vocab(model.at("vocab"));
  read_merges(model.at("merges"));
  if (const auto unk = model.find("unk_token")) {
    unk_ = vocab_.find(unk->text());
    if (unk_ < 0) fail("{}: /model/unk_token: {} is not in the vocabulary", source_, unk->found());
  }
  for (int b = 0; b < 256; ++b) bytes_.push_back(vocab_.find(fmt::format("<0x{:02X}>", b)));
}

void JsonTokenizer::set_text(int32_t id, std::string_view text) {
  if (size_t(id) >= texts_.size()) texts_.resize(size_t(id) + 1);
  texts_[size_t(id)] = text;
}

void JsonTokenizer::read_vocab(const JsonNode& vocab) {
  const auto members = vocab.members();
  if (members.empty() || int64_t(members.size()) > kMaxVocab) {
    fail("{}: /model/vocab: expected 1 to {} tokens, found {}", source_, kMaxVocab, members.size());
  }
  std::vector<bool> taken;
  for (const auto& [text, node] : members) {
    const auto id = int32_t(node.integer(0, kMaxVocab - 1));
    if (text.size() > kMaxPieceBytes)
      fail("{}: /model/vocab: token {} has {} bytes", source_, id, text.size());
    if (size_t(id) >= taken.size()) taken.resize(size_t(id) + 1);
    if (taken[size_t(id)]) fail("{}: /model/vocab: id {} is there twice ({})", source_, id, json_quote(text));
    taken[size_t(id)] = true;
    vocab_.insert(text, id);
    set_text(id, text);
  }
}

void JsonTokenizer::read_merges(const JsonNode& merges) {
  const auto list = merges.elements();
  if (list.size() > kMaxMerges)
    fail("{}: /model/merges: {} merges, limit {}", source_, list.size(), kMaxMerges);
  uint32_t rank = 0;
  for (const JsonNode& node : list) {
    std::string left, right;
    if (node.is_text()) {  // "a b": exactly one space
      const std::string& both = node.text();
      const size_t space = both.find(' ');
      if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
        node.fail_expected("two tokens with one space between them");
      }
      left = both.substr(0, space);
      right = both.substr(space + 1);
    } else {
      const auto pair = node.elements();
      if (pair.size() != 2) node.fail_expected("a pair of tokens");
      left = pair[0].text();
      right = pair[1].text();
    }
    const int32_t a = vocab_.find(left), b = vocab_.find(right), merged = vocab_.find(left + right);
    if (a < 0 || b < 0 || merged < 0) {
      const std::string& missing = a < 0 ? left : b < 0 ? right : left + right;
      fail("{}: {}: the token {} is not in the vocabulary", source_, node.pointer(), json_quote(missing));
    }
    merges_.set(uint32_t(a), uint32_t(b), {rank++, merged});
  }
}

void JsonTokenizer::read_added(const JsonNode& tokens) {
  for (const JsonNode& node : tokens.elements()) {
    AddedToken token;
    token.content = node.at("content").text();
    token.id = int32_t(node.at("id").integer(0, kMaxVocab - 1));
    token.special = node.boolean_or("special", false);
    token.normalized = node.boolean_or("normalized", !token.special);
    token.single_word = node.boolean_or("single_word", false);
    token.lstrip = node.boolean_or("lstrip", false);
    token.rstrip = node.boolean_or("rstrip", false);
    if (token.content.empty() || token.content.size() > kMaxPieceBytes) {
      node.at("content").fail_expected(fmt::format("1 to {} bytes", kMaxPieceBytes));
    }
    const int32_t known = vocab_.find(token.content);
    const bool other = size_t(token.id) < texts_.size() && !texts_[size_t(token.id)].empty() &&
                       texts_[size_t(token.id)] != token.content;
    if ((known >= 0 && known != token.id) || other) {
      fail("{}: {}: {} has id {} here, but {} in the vocabulary", source_, node.pointer(),
           json_quote(token.content), token.id,
           other ? "that id is " + json_quote(texts_[size_t(token.id)]) : std::to_string(known));
    }
    set_text(token.id, token.content);
    added_.add(std::move(token), normalizer_);
  }
}

// TemplateProcessing for one sequence gives `before` and `after`; ByteLevel only moves offsets.
void JsonTokenizer::read_post_processor(const JsonNode& node) {
  const std::string type = node.at("type").text();
  if (type == "ByteLevel") return;
  if (type == "Sequence") {
    for (const JsonNode& child : node.at("processors").elements()) read_post_processor(child);
    return;
  }
  if (type != "TemplateProcessing") {
    fail("{}: {}: the post-processor {} is not supported", source_, node.pointer(), json_quote(type));
  }
  bool seen = false;
  for (const JsonNode& item : node.at("single").elements()) {
    if (item.find("Sequence")) {
      seen = true;
      continue;
    }
    const std::string& name = item.at("SpecialToken").at("id").text();
    for (const JsonNode& id : node.at("special_tokens").at(name).at("ids").elements()) {
      (seen ? after_ : before_).push_back(int32_t(id.integer(0, vocab_size() - 1)));
    }
  }
}

int JsonTokenizer::find(std::string_view token) const {
  if (const int32_t id = vocab_.find(token); id >= 0) return id;
  for (const AddedToken& added : added_.all()) {
    if (added.content == token) return added.id;
  }
  return -1;
}

bool JsonTokenizer::is_special(int id) const {
  const AddedToken* token = added_.find(id);
  return token != nullptr && token->special;
}

void JsonTokenizer::encode(std::string_view text, bool special, EncodeScratch& scratch,
                           std::vector<int32_t>& ids) const {
  std::string valid;
  if (!is_valid_utf8(text)) text = valid = sanitize_utf8(text);
  added_.split(text, false, special, scratch.raw_parts);
  for (const EncodeScratch::Part& raw : scratch.raw_parts) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    scratch.text = raw.text;
    normalizer_.apply(scratch);
    added_.split(scratch.text, true, special, scratch.normalized_parts);
    const bool many = scratch.normalized_parts.size() > 1;
    const std::string normalized =
        many ? scratch.text : std::string();  // the steps below rewrite scratch.text
    size_t done = 0;
    for (const EncodeScratch::Part& part : scratch.normalized_parts) {
      const size_t begin = done, size = part.text.size();
      done += size;
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      if (many) scratch.text.assign(normalized, begin, size);
      const bool at_start = raw.text.data() == text.data() && begin == 0;
      scratch.words.assign(1, {0, size, at_start});
      pre_tokenizer_.split(scratch);
      for (const EncodeScratch::Word& word : scratch.words) {
        encode_word(std::string_view(scratch.text).substr(word.begin, word.size), scratch.merger, ids);
      }
    }
  }
}

void JsonTokenizer::encode_word(std::string_view word, BpeMerger& merger, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  if (const int32_t whole = ignore_merges_ ? vocab_.find(word) : -1; whole >= 0) {
    ids.push_back(whole);
    return;
  }
  std::vector<BpeSymbol>& symbols = merger.symbols;
  symbols.clear();
  symbols.reserve(word.size());
  std::optional<BpeSymbol> unknown;
  const auto flush = [&] {
    if (unknown) symbols.push_back(*unknown);
    unknown.reset();
  };
  for (size_t at = 0; at < word.size();) {
    const uint32_t size = code_point_at(word, at).size, begin = uint32_t(at);
    const int32_t id = vocab_.find(word.substr(at, size));
    at += size;
    if (id >= 0) {
      flush();
      symbols.push_back({.begin = begin, .size = size, .id = id});
      continue;
    }
    bool all_bytes = byte_fallback_;
    for (uint32_t i = 0; i < size; ++i) all_bytes = all_bytes && bytes_[uint8_t(word[begin + i])] >= 0;
    if (all_bytes) {
      for (uint32_t i = 0; i < size; ++i) {
        symbols.push_back({.begin = begin + i, .size = 1, .id = bytes_[uint8_t(word[begin + i])]});
      }
    } else if (unk_ >= 0) {
      if (unknown && fuse_unk_) {
        unknown->size += size;
      } else {
        flush();
        unknown = BpeSymbol{.begin = begin, .size = size, .id = unk_};
      }
    }
  }
  flush();
  merger.merge([&](const BpeSymbol& a, const BpeSymbol& b) -> std::optional<BpeMerge> {
    const PairTable::Value* merge = merges_.find(uint32_t(a.id), uint32_t(b.id));
    if (merge == nullptr) return std::nullopt;
    return BpeMerge{float(merge->rank), merge->id};
  });
  for (const BpeSymbol& s : symbols) ids.push_back(s.id);
}

std::string JsonTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      fail("{}: cannot decode id {}: expected 0 to {}", source_, id, vocab_size() - 1);
    }
    if (texts_[size_t(id)].empty() || (skip_special && is_special(id))) continue;  // a hole has no text
    tokens.push_back(texts_[size_t(id)]);
  }
  return decoder_.decode(std::move(tokens));
}

}  // namespace flashrt
