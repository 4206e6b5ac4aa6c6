// The `added_tokens` of tokenizer.json: cut out of the text before anything else is done to the rest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/tokenizer_normalize.h"
#include "io/tokenizer_tables.h"

namespace flashrt {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false, normalized = false, single_word = false, lstrip = false, rstrip = false;
};

class AddedTokens {
 public:
  void add(AddedToken token, const TextNormalizer& normalizer);
  // The token with this id, or null.
  const AddedToken* find(int32_t id) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

  // Cuts `text` at the tokens that match it raw (normalized = false) or normalised. Special tokens count as
  // text unless `special`.
  void split(std::string_view text, bool normalized, bool special,
             std::vector<EncodeScratch::Part>& parts) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  PrefixTrie raw_, normalized_;  // contents → index of the token
  size_t bytes_ = 0;
};

}  // namespace flashrt
