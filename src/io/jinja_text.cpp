// Python's str, as far as templates use it.
#include "io/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt::jinja {

namespace {

std::string mapped(std::string_view text, utf8proc_int32_t (*map)(utf8proc_int32_t)) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (c.size == 0) {
      out += text[i++];
      continue;
    }
    append_utf8(out, uint32_t(map(utf8proc_int32_t(c.value))));
    i += c.size;
  }
  return out;
}
JinjaValue split(std::string_view text, const JinjaValue* separator, int64_t limit) {
  JinjaValue::List parts;
  if (separator == nullptr || separator->is_none()) {
    text = trim(text, "", true, false);
    while (!text.empty()) {
      if (limit == 0) {
        parts.push_back(trim(text, "", false, true));
        break;
      }
      size_t end = 0;
      while (end < text.size() && !is_white_space(code_point_at(text, end).value)) {
        end += std::max(code_point_at(text, end).size, 1u);
      }
      parts.push_back(text.substr(0, end));
      text = trim(text.substr(end), "", true, false);
      --limit;
    }
    return JinjaValue::list(std::move(parts));
  }
  const std::string* by = separator->text();
  if (by == nullptr || by->empty()) fail("split: expected a separator that is not empty");
  for (size_t hit; limit != 0 && (hit = text.find(*by)) != text.npos; --limit) {
    parts.push_back(text.substr(0, hit));
    text.remove_prefix(hit + by->size());
  }
  parts.push_back(text);
  return JinjaValue::list(std::move(parts));
}

}  // namespace

std::string upper(std::string_view text) { return mapped(text, utf8proc_toupper); }
std::string lower(std::string_view text) { return mapped(text, utf8proc_tolower); }
std::string capitalize(std::string_view text) {
  const size_t first = text.empty() ? 0 : std::max(code_point_at(text, 0).size, 1u);
  return upper(text.substr(0, first)) + lower(text.substr(first));
}

// The filter: a word begins after white space, a dash or an opening bracket (the method: after any
// non-letter).
std::string title(std::string_view text) {
  std::string out;
  bool begins = true;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    const std::string_view part = text.substr(i, std::max(c.size, 1u));
    out += begins ? upper(part) : lower(part);
    begins =
        is_white_space(c.value) || (part.size() == 1 && std::string_view("-({[<").find(part) != part.npos);
    i += part.size();
  }
  return out;
}

std::string_view trim(std::string_view text, std::string_view chars, bool left, bool right) {
  const auto drops = [&](std::string_view c) {
    if (!chars.empty()) return chars.find(c) != chars.npos;
    const uint32_t v = code_point_at(c, 0).value;
    return is_white_space(v) || (v >= 0x1c && v <= 0x1f);
  };
  while (left && !text.empty()) {
    const size_t size = std::max(code_point_at(text, 0).size, 1u);
    if (!drops(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (right && !text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80) --at;
    if (!drops(text.substr(at))) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count) {
  std::string out;
  size_t at = 0;
  while (count != 0) {
    const size_t hit = from.empty() ? (at < text.size() ? at : text.npos) : text.find(from, at);
    if (hit == text.npos) break;
    out.append(text, at, hit - at).append(to);
    at = hit + from.size();
    if (from.empty()) {  // between all characters
      const size_t size = std::max(code_point_at(text, at).size, 1u);
      out.append(text, at, size);
      at += size;
    }
    if (out.size() > kMaxText) fail("replace: more than {} bytes", kMaxText);
    --count;
  }
  if (from.empty() && count != 0) out += to;
  return out.append(text.substr(at));
}

int64_t integer(const JinjaValue& v, std::string_view what) {
  if (const int64_t* i = v.get<int64_t>()) return *i;
  if (const bool* b = v.get<bool>()) return *b;
  fail("{}: expected an integer, found a {}", what, kind_of(v));
}

const std::string& text_of(const JinjaValue* v, std::string_view what) {
  if (v == nullptr || v->text() == nullptr)
    fail("{}: expected a text, found {}", what, v ? kind_of(*v) : "nothing");
  return *v->text();
}

size_t text_length(std::string_view text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

std::string joined(const std::vector<JinjaValue>& items, std::string_view separator) {
  std::string out;
  bool first = true;
  for (const JinjaValue& item : items) {
    if (!std::exchange(first, false)) out += separator;
    out += to_text(item);
    if (out.size() > kMaxText) fail("join: more than {} bytes", kMaxText);
  }
  return out;
}

JinjaValue text_method(const std::string& text, std::string_view name, const JinjaArguments& args) {
  const JinjaValue* first = args.list.empty() ? nullptr : &args.list[0];
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const std::string_view chars = first && !first->is_none() ? text_of(first, name) : std::string_view();
    return trim(text, chars, name != "rstrip", name != "lstrip");
  }
  if (name == "startswith" || name == "endswith") {
    const auto hit = [&](const JinjaValue& v) {
      const std::string& part = text_of(&v, name);
      return name == "startswith" ? text.starts_with(part) : text.ends_with(part);
    };
    if (first && first->items()) return std::any_of(first->items()->begin(), first->items()->end(), hit);
    return hit(first ? *first : JinjaValue());
  }
  if (name == "split") {
    const JinjaValue* limit = args.find(1, "maxsplit");
    return split(text, args.find(0, "sep"), limit ? integer(*limit, name) : -1);
  }
  if (name == "splitlines") {
    JinjaValue lines = split(text, std::make_unique<JinjaValue>("\n").get(), -1);
    auto items = *lines.items();
    if (items.back().text()->empty()) items.pop_back();
    return JinjaValue::list(std::move(items));
  }
  if (name == "upper") return upper(text);
  if (name == "lower") return lower(text);
  if (name == "capitalize") return capitalize(text);
  if (name == "title") {
    std::string out;
    bool inside = false;
    for (size_t i = 0; i < text.size();) {
      const size_t size = std::max(code_point_at(text, i).size, 1u);
      const std::string c = text.substr(i, size);
      out += inside ? lower(c) : upper(c);
      inside = upper(c) != lower(c);
      i += size;
    }
    return out;
  }
  if (name == "replace") {
    const JinjaValue* count = args.find(2, "count");
    return replaced(text, text_of(args.find(0, "old"), name), text_of(args.find(1, "new"), name),
                    count ? integer(*count, name) : -1);
  }
  if (name == "find" || name == "rfind" || name == "count") {
    const std::string& part = text_of(first, name);
    if (name == "count") {
      int64_t hits = 0;
      for (size_t at = 0; !part.empty() && (at = text.find(part, at)) != text.npos; at += part.size()) ++hits;
      return part.empty() ? int64_t(text_length(text)) + 1 : hits;
    }
    const size_t at = name == "find" ? text.find(part) : text.rfind(part);
    return at == text.npos ? int64_t{-1} : int64_t(text_length(text.substr(0, at)));
  }
  if (name == "join" && first) return joined(jinja_items(*first), text);
  if (name == "isdigit") return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  fail("text has no method '{}' that templates may use", name);
}

}  // namespace flashrt::jinja
