// The `decoder` of tokenizer.json: token texts back to text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer_pattern.h"

namespace flashrt {

class TokenDecoder {
 public:
  TokenDecoder() = default;
  explicit TokenDecoder(const JsonNode& node) { add(node); }
  std::string decode(std::vector<std::string> tokens) const;
  // Whether the token is one byte, <0xNN>, to this decoder.
  bool is_byte(std::string_view token) const;

 private:
  enum class Kind { byte_level, byte_fallback, fuse, strip, replace, metaspace };
  struct Step {
    Kind kind;
    std::optional<Pattern> pattern;  // replace
    std::string text;                // replace: the new text; strip: the character; metaspace: the mark
    size_t start = 0, stop = 0;      // strip: at most so many at each end
    bool drops_first = true;         // metaspace: a mark at the start was a dummy prefix
  };
  void add(const JsonNode& node);
  static void apply(const Step& step, std::vector<std::string>& tokens);
  std::vector<Step> steps_;
};

}  // namespace flashrt
