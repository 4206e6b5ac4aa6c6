// A pattern of tokenizer.json: a literal string, or a Unicode regular expression with look-ahead (PCRE2).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"

namespace flashrt {

class Pattern {
 public:
  // {"String": …} or {"Regex": …}; a plain string is a literal.
  static Pattern parse(const JsonNode& node);
  static Pattern literal(std::string text);
  static Pattern regex(const std::string& source, const std::string& where);

  using Matches = std::vector<std::pair<size_t, size_t>>;  // [begin, end) in bytes
  // Non-overlapping matches from the left. `text` is valid UTF-8.
  void find(std::string_view text, Matches& found) const;
  void replace(std::string& text, std::string_view by, Matches& found, std::string& spare) const;

 private:
  struct Compiled;
  std::string literal_, where_;
  std::shared_ptr<const Compiled> compiled_;  // null for a literal
};

}  // namespace flashrt
