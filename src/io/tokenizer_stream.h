// Token ids → text as they come, whole code points only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/tokenizer.h"

namespace flashrt {

// All pieces together are exactly decode() of all ids. An unfinished code point, and a run of byte tokens, is
// held back until it is whole.
class TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer, bool with_special = false)
      : tokenizer_(std::move(tokenizer)), with_special_(with_special) {}

  std::string push(int32_t id);  // the text that is certain now; may be empty
  std::string finish();  // the rest, U+FFFD for what is still unfinished; then the stream is new again

 private:
  std::string take(size_t end, const std::string& text);

  Tokenizer tokenizer_;
  bool with_special_;
  std::vector<int32_t> window_;  // ids whose text is not all sent, and at least one before them
  size_t sent_ = 0;              // bytes of the window's text that have been returned
};

}  // namespace flashrt
