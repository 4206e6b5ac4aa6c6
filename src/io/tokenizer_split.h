// The `pre_tokenizer` of tokenizer.json: cuts normalised text into words that BPE merges separately.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer_pattern.h"
#include "io/tokenizer_scratch.h"

namespace flashrt {

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(const JsonNode& node) { add(node); }
  // Cuts scratch.words, ranges of scratch.text, which may be rewritten on the way.
  void split(EncodeScratch& scratch) const;

 private:
  enum class Kind { split, byte_level, metaspace, digits };
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  enum class Prepend { always, first, never };
  struct Step {
    Kind kind;
    std::optional<Pattern> pattern;
    Behavior behavior = Behavior::isolated;
    bool invert = false, individual = false, cuts = true, prefix_space = false;
    Prepend prepend = Prepend::always;
    std::string mark;
  };
  void add(const JsonNode& node);
  static void cut(const Step& step, EncodeScratch& scratch);
  template <class Append>
  static void rewrite(EncodeScratch& scratch, Append&& append);
  std::vector<Step> steps_;
};

// Byte-level alphabet: each byte has a printable code point (33…126, 161…172, 174…255 map to themselves, the
// other 68 to U+0100 and up, in order).
void append_printable(std::string_view bytes, std::string& out);
// The inverse; false when `text` has a code point outside the alphabet.
bool printable_to_bytes(std::string_view text, std::string& bytes);

}  // namespace flashrt
