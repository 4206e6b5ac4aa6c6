// The `normalizer` of tokenizer.json: Unicode normal forms, replacements, prefixes, in sequence.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer_pattern.h"
#include "io/tokenizer_scratch.h"

namespace flashrt {

class TextNormalizer {
 public:
  TextNormalizer() = default;
  explicit TextNormalizer(const JsonNode& node) { add(node); }
  // On scratch.text, which is and stays valid UTF-8.
  void apply(EncodeScratch& scratch) const;
  bool empty() const { return steps_.empty(); }

 private:
  enum class Kind { nfc, nfd, nfkc, nfkd, lowercase, strip, replace, prepend };
  struct Step {
    Kind kind;
    std::optional<Pattern> pattern;  // replace
    std::string text;                // replace: the new text; prepend: the prefix
    bool left = true, right = true;  // strip
  };
  void add(const JsonNode& node);
  std::vector<Step> steps_;
};

}  // namespace flashrt
