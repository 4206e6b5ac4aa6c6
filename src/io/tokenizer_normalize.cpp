// Normaliser steps over libutf8proc.
#include "io/tokenizer_normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

constexpr size_t kMaxSteps = 64;

void append_mapped(std::string_view text, int options, std::string& out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()),
                   &mapped, utf8proc_option_t(options | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(mapped, std::free);
  if (size < 0) fail("cannot normalise a text of {} bytes: {}", text.size(), utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(mapped), size_t(size));
}

// Code points that the tokenizers' training libraries pass through unchanged, as starters: their tables are
// Unicode 9's, libutf8proc's 15. And U+11A7, which composes with nothing, but libutf8proc 2.8 swallows it
// after a syllable.
struct CodeRange {
  uint32_t first, last;
};
constexpr CodeRange kOpaque[] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x11a7, 0x11a7},   {0x1715, 0x1715},   {0x1abf, 0x1ace},
    {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},   {0xab69, 0xab69},
    {0x10781, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac},
    {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b},
    {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943},
    {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42},
    {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e030, 0x1e06d},
    {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
    {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

bool is_opaque(uint32_t c) {
  if (c < kOpaque[0].first) return false;
  const CodeRange* range = std::lower_bound(std::begin(kOpaque), std::end(kOpaque), c,
                                            [](const CodeRange& r, uint32_t v) { return r.last < v; });
  return range != std::end(kOpaque) && c >= range->first;
}

void map_unicode(std::string& text, int options) {
  bool ascii = true;
  for (const char c : text) ascii = ascii && uint8_t(c) < 0x80;
  if (ascii) return;
  std::string out;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (is_opaque(c.value)) {
      append_mapped(std::string_view(text).substr(begin, i - begin), options, out);
      begin = i + c.size;
      out.append(text, i, c.size);
    }
    i += c.size;
  }
  append_mapped(std::string_view(text).substr(begin), options, out);
  text = std::move(out);
}

void lowercase(std::string& text) {  // simple mappings, and İ → i̇, the only one that grows
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (c.value == 0x130)
      out += "i\xCC\x87";
    else
      append_utf8(out, uint32_t(utf8proc_tolower(int32_t(c.value))));
    i += c.size;
  }
  text = std::move(out);
}

void strip(std::string& text, bool left, bool right) {
  size_t begin = text.size(), end = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (!is_white_space(c.value)) {
      begin = std::min(begin, i);
      end = i + c.size;
    }
    i += c.size;
  }
  if (!left && begin < text.size()) begin = 0;
  if (!right) end = text.size();
  text = begin < end ? text.substr(begin, end - begin) : "";
}

}  // namespace

void TextNormalizer::add(const JsonNode& node) {
  const std::string type = node.at("type").text();
  if (type == "Sequence") {
    for (const JsonNode& child : node.at("normalizers").elements()) add(child);
    return;
  }
  if (steps_.size() == kMaxSteps) fail("{}: more than {} normalisers", node.source(), kMaxSteps);
  static constexpr std::pair<std::string_view, Kind> kKinds[] = {{"NFC", Kind::nfc},
                                                                 {"NFD", Kind::nfd},
                                                                 {"NFKC", Kind::nfkc},
                                                                 {"NFKD", Kind::nfkd},
                                                                 {"Lowercase", Kind::lowercase},
                                                                 {"Strip", Kind::strip},
                                                                 {"Replace", Kind::replace},
                                                                 {"Prepend", Kind::prepend}};
  for (const auto& [name, kind] : kKinds) {
    if (name != type) continue;
    Step step{.kind = kind};
    if (kind == Kind::replace) {
      step.pattern = Pattern::parse(node.at("pattern"));
      step.text = node.at("content").text();
    } else if (kind == Kind::prepend) {
      step.text = node.at("prepend").text();
    } else if (kind == Kind::strip) {
      step.left = node.boolean_or("strip_left", true);
      step.right = node.boolean_or("strip_right", true);
    }
    steps_.push_back(std::move(step));
    return;
  }
  fail("{}: {}: the normaliser {} is not supported", node.source(), node.pointer(), json_quote(type));
}

void TextNormalizer::apply(EncodeScratch& scratch) const {
  std::string& text = scratch.text;
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::nfc: map_unicode(text, UTF8PROC_COMPOSE); break;
      case Kind::nfd: map_unicode(text, UTF8PROC_DECOMPOSE); break;
      case Kind::nfkc: map_unicode(text, UTF8PROC_COMPOSE | UTF8PROC_COMPAT); break;
      case Kind::nfkd: map_unicode(text, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT); break;
      case Kind::lowercase: lowercase(text); break;
      case Kind::strip: strip(text, step.left, step.right); break;
      case Kind::replace: step.pattern->replace(text, step.text, scratch.matches, scratch.spare_text); break;
      case Kind::prepend:
        if (!text.empty()) text.insert(0, step.text);
        break;
    }
  }
}

}  // namespace flashrt
