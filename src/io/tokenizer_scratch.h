// Working memory of an encoder: encoding again, no longer a text, allocates nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/bpe_merge.h"

namespace flashrt {

struct EncodeScratch {
  struct Word {  // a range of `text` that BPE merges by itself
    size_t begin = 0, size = 0;
    bool at_start = false;  // whether it begins at the first byte of the caller's text
  };
  struct Part {  // between or at added tokens
    std::string_view text;
    int32_t id = -1;  // −1: plain text
  };
  using Matches = std::vector<std::pair<size_t, size_t>>;  // [begin, end) in bytes

  std::string text, spare_text;  // normalised text, and where a step writes its result
  std::vector<Word> words, spare_words;
  std::vector<Part> raw_parts, normalized_parts;
  std::vector<std::string_view> pending;
  Matches matches;
  BpeMerger merger;
};

}  // namespace flashrt
