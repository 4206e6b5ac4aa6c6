// Normaliser steps over libutf8proc.
#include "io/tokenizer_normalize.h"

#include <utf8proc.h>

#include <cstdlib>
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

void map_unicode(std::string& text, int options) {
  bool ascii = true;
  for (const char c : text) ascii = ascii && uint8_t(c) < 0x80;
  if (ascii) return;
  // U+11A7 composes with nothing, but libutf8proc 2.8 swallows it after a Hangul syllable: go around it.
  constexpr std::string_view kNoTrailingJamo = "\xE1\x86\xA7";
  std::string out;
  std::string_view rest = text;
  for (size_t at; (at = rest.find(kNoTrailingJamo)) != std::string_view::npos;) {
    append_mapped(rest.substr(0, at), options, out);
    out += kNoTrailingJamo;
    rest.remove_prefix(at + kNoTrailingJamo.size());
  }
  append_mapped(rest, options, out);
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
