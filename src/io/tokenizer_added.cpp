// Leftmost-longest matching of added tokens, with huggingface/tokenizers' flags.
#include "io/tokenizer_added.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

constexpr size_t kMaxTokens = 100'000, kMaxBytes = 4 << 20;

// `\w`: letters, marks, decimal numbers, connectors, joiners.
bool is_word(uint32_t c) {
  if (c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9)) return true;
  switch (utf8proc_category(int32_t(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

// Start of the code point that ends at `end` > 0.
size_t before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

}  // namespace

void AddedTokens::add(AddedToken token, const TextNormalizer& normalizer) {
  if (tokens_.size() == kMaxTokens) fail("more than {} added tokens", kMaxTokens);
  if ((bytes_ += token.content.size()) > kMaxBytes)
    fail("added tokens of more than {} bytes in all", kMaxBytes);
  EncodeScratch scratch;
  scratch.text = token.content;
  if (token.normalized) normalizer.apply(scratch);
  const std::string& pattern = scratch.text;
  if (!pattern.empty()) (token.normalized ? normalized_ : raw_).insert(pattern, int32_t(tokens_.size()));
  by_id_[token.id] = tokens_.size();
  tokens_.push_back(std::move(token));
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

void AddedTokens::split(std::string_view text, bool normalized, bool special,
                        std::vector<EncodeScratch::Part>& parts) const {
  parts.clear();
  const PrefixTrie& trie = normalized ? normalized_ : raw_;
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !trie.empty();) {
    const PrefixTrie::Match match = trie.longest(text, at);
    if (match.size == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[size_t(match.id)];
    size_t begin = at, end = at + match.size;
    at = end;
    if (token.special && !special) continue;
    if (token.single_word) {
      const bool left = begin == 0 || !is_word(code_point_at(text, before(text, begin)).value);
      const bool right = end == text.size() || !is_word(code_point_at(text, end).value);
      if (!left || !right) continue;
    }
    if (token.lstrip) {
      while (begin > done && is_white_space(code_point_at(text, before(text, begin)).value)) {
        begin = before(text, begin);
      }
    }
    if (token.rstrip) {
      for (CodePoint c; end < text.size() && is_white_space((c = code_point_at(text, end)).value);)
        end += c.size;
    }
    begin = std::max(begin, done);
    if (done < begin) parts.push_back({text.substr(done, begin - done)});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
    at = std::max(at, end);
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
}

}  // namespace flashrt
