// TextStream decodes a short window of ids again and returns what grew.
#include "io/tokenizer_stream.h"

#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {
constexpr size_t kLongWindow = 32;
}

std::string TextStream::take(size_t end, const std::string& text) {
  if (end <= sent_) return {};
  std::string piece = text.substr(sent_, end - sent_);
  sent_ = end;
  return piece;
}

std::string TextStream::push(int32_t id) {
  if (!with_special_ && tokenizer_.is_skipped(id)) return {};
  window_.push_back(id);
  if (tokenizer_.is_byte(id)) return {};  // the next byte may change how the whole run reads
  const std::string text = tokenizer_.decode(window_, with_special_);
  // A cut sequence reads as one U+FFFD at the end.
  const bool open = std::string_view(text).ends_with(kReplacementText);
  std::string piece = take(open ? text.size() - kReplacementText.size() : text.size(), text);
  if (!open && window_.size() >= kLongWindow) {
    // The last token alone is context enough, once it has text: first tokens are decoded differently.
    const std::string last = tokenizer_.decode({&window_.back(), 1}, with_special_);
    if (!last.empty()) {
      window_.assign(1, id);
      sent_ = last.size();
    }
  }
  return piece;
}

std::string TextStream::finish() {
  const std::string text = tokenizer_.decode(window_, with_special_);
  std::string piece = take(text.size(), text);
  window_.clear();
  sent_ = 0;
  return piece;
}

}  // namespace flashrt
