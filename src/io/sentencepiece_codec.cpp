// SentencePiece encoding and decoding, step for step as google/sentencepiece does them for BPE models.
#include <unordered_map>

#include "base/error.h"
#include "io/bpe_merge.h"
#include "io/sentencepiece.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";         // U+2581
constexpr std::string_view kUnknownSurface = " \xE2\x81\x87 ";  // U+2047 between spaces
}  // namespace

// Spaces become U+2581; runs and ends of them are dropped where the model says so. User-defined pieces stay
// as they are, malformed bytes become U+FFFD.
void SentencePiece::normalize(std::string_view text, std::string& out) const {
  out.clear();
  const std::string_view mark = escape_whitespaces_ ? kSpaceMark : " ";
  size_t at = 0;
  const auto unit = [&] {  // the next user-defined piece or code point; {text, bytes consumed}
    if (const auto match = user_defined_.longest(text, at); match.size > 0) {
      return std::pair(text.substr(at, match.size), match.size);
    }
    const uint32_t size = code_point_at(text, at).size;
    return size ? std::pair(text.substr(at, size), size_t{size}) : std::pair(kReplacementText, size_t{1});
  };
  while (remove_extra_whitespaces_ && at < text.size() && unit().first == " ") ++at;
  if (at == text.size()) return;
  if (add_dummy_prefix_ && !whitespace_as_suffix_) out += mark;
  bool after_space = remove_extra_whitespaces_;
  while (at < text.size()) {
    auto [part, consumed] = unit();
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    for (const char c : part) {
      if (c == ' ')
        out += mark;
      else
        out += c;
    }
    if (!part.empty()) after_space = part.ends_with(' ');
    if (!remove_extra_whitespaces_) after_space = false;
    at += consumed;
  }
  while (remove_extra_whitespaces_ && std::string_view(out).ends_with(mark))
    out.erase(out.size() - mark.size());
  if (add_dummy_prefix_ && whitespace_as_suffix_) out += mark;
}

void SentencePiece::encode(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const {
  normalize(text, scratch.text);
  const std::string_view all = scratch.text;
  std::vector<BpeSymbol>& symbols = scratch.merger.symbols;
  symbols.clear();
  symbols.reserve(all.size());
  for (size_t at = 0; at < all.size();) {
    const auto match = user_defined_.longest(all, at);
    const size_t size = match.size ? match.size : code_point_at(all, at).size;
    const int32_t id = match.size ? match.id : matchable_.find(all.substr(at, size));
    symbols.push_back({.begin = uint32_t(at), .size = uint32_t(size), .id = id, .frozen = match.size > 0});
    at += size;
  }
  // UNUSED pieces take part in merges but are taken apart again afterwards: remember what they were made of.
  std::unordered_map<int32_t, uint32_t> left_size;
  scratch.merger.merge([&](const BpeSymbol& a, const BpeSymbol& b) -> std::optional<BpeMerge> {
    const int32_t id = matchable_.find(all.substr(a.begin, a.size + b.size));
    if (id < 0) return std::nullopt;
    if (pieces_[size_t(id)].type == Type::unused) left_size[id] = a.size;
    return BpeMerge{-pieces_[size_t(id)].score, id};
  });

  bool after_unknown = false;  // a run of unknown characters is one unk
  const auto emit = [&](std::string_view piece) {
    int32_t id = find(piece);
    if (id < 0) id = unk_;
    const bool unknown = id == unk_;
    if (!unknown || (!byte_fallback_ && !after_unknown)) ids.push_back(id);
    if (unknown && byte_fallback_) {
      for (const char c : piece) ids.push_back(bytes_[uint8_t(c)]);
    }
    after_unknown = unknown;
  };
  std::vector<std::string_view>& pending = scratch.pending;
  for (const BpeSymbol& s : symbols) {
    pending.push_back(all.substr(s.begin, s.size));
    while (!pending.empty()) {
      const std::string_view piece = pending.back();
      pending.pop_back();
      const int32_t id = find(piece);
      const auto made =
          id >= 0 && pieces_[size_t(id)].type == Type::unused ? left_size.find(id) : left_size.end();
      if (made == left_size.end()) {
        emit(piece);
      } else {
        pending.push_back(piece.substr(made->second));
        pending.push_back(piece.substr(0, made->second));
      }
    }
  }
}

std::string SentencePiece::decode(std::span<const int32_t> ids) const {
  const bool drops_first_space = add_dummy_prefix_ || remove_extra_whitespaces_;
  std::string out, run;  // run: bytes of consecutive byte pieces
  bool at_start = true, dropped = false;
  const auto flush = [&] {
    out += sanitize_utf8(run);
    run.clear();
  };
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      fail("{}: cannot decode id {}: expected 0 to {}", source_, id, vocab_size() - 1);
    }
    const Piece& p = pieces_[size_t(id)];
    if (p.type == Type::byte) {
      run += char(std::stoi(p.text.substr(3, 2), nullptr, 16));
      continue;
    }
    flush();
    if (dropped || !out.empty()) at_start = false;
    dropped = false;
    if (p.type == Type::control) continue;
    if (p.type == Type::unknown) {
      out += kUnknownSurface;
      continue;
    }
    std::string text = p.text;
    if (at_start && drops_first_space && text.starts_with(kSpaceMark)) {
      text.erase(0, kSpaceMark.size());
      dropped = !remove_extra_whitespaces_;  // that rule drops all leading spaces, the dummy prefix only one
    }
    replace_all(text, kSpaceMark, " ");
    out += text;
  }
  flush();
  return out;
}

}  // namespace flashrt
