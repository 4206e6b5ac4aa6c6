// Pattern over PCRE2, with limits so that no expression can run away.
#include "io/tokenizer_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "io/tokenizer_classes.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {
constexpr size_t kMaxRegexBytes = 8 << 10, kMaxLiteralBytes = 64 << 10;
constexpr uint32_t kMatchLimit = 10'000'000, kDepthLimit = 100'000, kHeapLimitKiB = 64 << 10;
}  // namespace

struct Pattern::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  ~Compiled() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

Pattern Pattern::regex(const std::string& source, const std::string& where) {
  if (source.size() > kMaxRegexBytes) {
    fail("{}: a regular expression of {} bytes, more than the limit of {}", where, source.size(),
         kMaxRegexBytes);
  }
  const std::string pattern_text = modern_classes(source);
  auto compiled = std::make_shared<Compiled>();
  int code = 0;
  PCRE2_SIZE offset = 0;
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_text.data()), pattern_text.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, nullptr);
  if (compiled->code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(code, message, sizeof message);
    fail("{}: the regular expression does not compile at byte {}: {}", where, offset,
         reinterpret_cast<const char*>(message));
  }
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);  // optional: without it, the interpreter runs
  compiled->context = pcre2_match_context_create(nullptr);
  check(compiled->context != nullptr, "no memory for a PCRE2 match context");
  pcre2_set_match_limit(compiled->context, kMatchLimit);
  pcre2_set_depth_limit(compiled->context, kDepthLimit);
  pcre2_set_heap_limit(compiled->context, kHeapLimitKiB);
  Pattern pattern;
  pattern.where_ = where;
  pattern.compiled_ = std::move(compiled);
  return pattern;
}

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::parse(const JsonNode& node) {
  const std::string where = node.source() + ": " + node.pointer();
  if (!node.is_text()) {
    if (const auto source = node.find("Regex")) return regex(source->text(), where);
  }
  const std::string text = node.is_text() ? node.text() : node.at("String").text();
  if (text.empty() || text.size() > kMaxLiteralBytes) {
    fail("{}: expected a pattern of 1 to {} bytes, found {}", where, kMaxLiteralBytes, text.size());
  }
  return literal(text);
}

void Pattern::find(std::string_view text, Matches& found) const {
  found.clear();
  if (compiled_ == nullptr) {
    for (size_t at = 0; (at = text.find(literal_, at)) != std::string_view::npos; at += literal_.size()) {
      found.emplace_back(at, at + literal_.size());
    }
    return;
  }
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  check(data != nullptr, "no memory for PCRE2 match data");
  for (size_t at = 0; at <= text.size();) {
    const int rc = pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                               at == 0 ? 0 : PCRE2_NO_UTF_CHECK, data.get(), compiled_->context);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      PCRE2_UCHAR message[256] = {};
      pcre2_get_error_message(rc, message, sizeof message);
      fail("{}: the regular expression failed at byte {} of {}: {}", where_, at, text.size(),
           reinterpret_cast<const char*>(message));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    if (ends[0] > ends[1]) fail("{}: the regular expression moves its own start (\\K)", where_);
    if (ends[1] > ends[0]) {
      found.emplace_back(ends[0], ends[1]);
      at = ends[1];
    } else {  // an empty match splits nothing: go on after the next code point
      if (ends[0] == text.size()) break;
      at = ends[0] + code_point_at(text, ends[0]).size;
    }
  }
}

void Pattern::replace(std::string& text, std::string_view by, Matches& found, std::string& spare) const {
  find(text, found);
  if (found.empty()) return;
  spare.clear();
  size_t at = 0;
  for (const auto& [begin, end] : found) {
    spare.append(text, at, begin - at).append(by);
    at = end;
  }
  spare.append(text, at);
  text.swap(spare);
}

}  // namespace flashrt
