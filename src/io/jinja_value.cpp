// Python's rules for JinjaValue.
#include "io/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxText = 4 << 20, kMaxComparisons = 10'000'000;

std::string float_text(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", v);
  if (text.find_first_of(".en") == text.npos) text += ".0";
  return text;
}

// Python prefers single quotes, and double ones when the text has only single quotes.
std::string quote(std::string_view text) {
  const char q = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, q);
  for (const char c : text) {
    if (c == q || c == '\\')
      out += '\\', out += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (uint8_t(c) < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", uint8_t(c));
    else
      out += c;
  }
  return out += q;
}

std::string repr_at(const JinjaValue& v, int depth) {
  if (depth > kMaxDepth) fail("a value nested deeper than {}", kMaxDepth);
  std::string out;
  if (const auto* list = v.items()) {
    for (const JinjaValue& item : *list) {
      if (out.size() > kMaxText) fail("more than {} bytes of text", kMaxText);
      out += (out.empty() ? "" : ", ") + repr_at(item, depth + 1);
    }
    return "[" + out + "]";
  }
  if (const auto* dict = v.entries()) {
    for (const auto& [key, value] : *dict) {
      if (out.size() > kMaxText) fail("more than {} bytes of text", kMaxText);
      out += (out.empty() ? "" : ", ") + quote(key) + ": " + repr_at(value, depth + 1);
    }
    return "{" + out + "}";
  }
  if (const std::string* text = v.text()) return quote(*text);
  if (v.is_none()) return "None";
  if (const bool* b = v.get<bool>()) return *b ? "True" : "False";
  if (const int64_t* i = v.get<int64_t>()) return std::to_string(*i);
  if (const double* d = v.get<double>()) return float_text(*d);
  if (v.is_undefined()) return "Undefined";
  fail("cannot print a {}", kind_of(v));
}

std::string json_text(std::string_view text, bool ascii) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (uint8_t(c) < 0x20)
          out += fmt::format("\\u{:04x}", uint8_t(c));
        else
          out += c;
    }
  }
  if (!ascii) return out += '"';
  std::string escaped;
  for (size_t i = 0; i < out.size();) {
    const CodePoint c = code_point_at(out, i);
    if (c.value < 0x80)
      escaped += char(c.value);
    else if (c.value < 0x10000)
      escaped += fmt::format("\\u{:04x}", c.value);
    else
      escaped += fmt::format("\\u{:04x}\\u{:04x}", 0xd7c0 + (c.value >> 10), 0xdc00 + (c.value & 0x3ff));
    i += std::max(c.size, 1u);
  }
  return escaped += '"';
}

struct JsonWriter {
  const JinjaJsonStyle& style;
  std::string out;

  void line(int depth) {
    if (style.indent >= 0) out += '\n' + std::string(size_t(style.indent * depth), ' ');
  }
  void write(const JinjaValue& v, int depth) {
    if (depth > kMaxDepth) fail("tojson: a value nested deeper than {}", kMaxDepth);
    if (out.size() > kMaxText) fail("tojson: more than {} bytes", kMaxText);
    if (const std::string* text = v.text()) {
      out += json_text(*text, style.ascii);
    } else if (const auto* list = v.items()) {
      out += '[';
      for (size_t i = 0; i < list->size(); ++i) {
        if (i > 0) out += style.item_separator;
        line(depth + 1);
        write((*list)[i], depth + 1);
      }
      if (!list->empty()) line(depth);
      out += ']';
    } else if (const auto* dict = v.entries()) {
      auto entries = *dict;
      if (style.sort_keys)
        std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return a.first < b.first; });
      out += '{';
      for (size_t i = 0; i < entries.size(); ++i) {
        if (i > 0) out += style.item_separator;
        line(depth + 1);
        out += json_text(entries[i].first, style.ascii);
        out += style.key_separator;
        write(entries[i].second, depth + 1);
      }
      if (!entries.empty()) line(depth);
      out += '}';
    } else if (v.is_none()) {
      out += "null";
    } else if (const bool* b = v.get<bool>()) {
      out += *b ? "true" : "false";
    } else if (v.is_number()) {
      const double* d = v.get<double>();
      out += d && !std::isfinite(*d) ? (std::isnan(*d) ? "NaN"
                                        : *d > 0       ? "Infinity"
                                                       : "-Infinity")
                                     : to_text(v);
    } else {
      fail("tojson: a {} is not JSON", kind_of(v));
    }
  }
};

}  // namespace

namespace {

uint8_t depth_with(const JinjaValue& item, uint8_t depth) {
  if (item.is_namespace || item.get<std::shared_ptr<const JinjaMacro>>() ||
      item.get<std::shared_ptr<const JinjaLoop>>()) {
    fail("a {} cannot be put into a list or dict", kind_of(item));
  }
  if (item.depth >= kMaxDepth) fail("lists and dicts nested deeper than {}", kMaxDepth);
  return std::max(depth, uint8_t(item.depth + 1));
}

thread_local size_t comparisons = 0;

}  // namespace

void reset_comparisons() { comparisons = 0; }

JinjaValue JinjaValue::list(List items) {
  uint8_t depth = 1;
  for (const JinjaValue& item : items) depth = depth_with(item, depth);
  JinjaValue value(std::make_shared<List>(std::move(items)));
  value.depth = depth;
  return value;
}

JinjaValue JinjaValue::dict(Dict items) {
  uint8_t depth = 1;
  for (const auto& entry : items) depth = depth_with(entry.second, depth);
  JinjaValue value(std::make_shared<Dict>(std::move(items)));
  value.depth = depth;
  return value;
}

JinjaValue JinjaValue::from_json(const JsonNode& node) {
  if (node.is_null()) return nullptr;
  if (node.is_text()) return node.text();
  if (node.is_array()) {
    List items;
    for (const JsonNode& child : node.elements()) items.push_back(from_json(child));
    return list(std::move(items));
  }
  if (node.is_object()) {
    Dict entries;
    for (const auto& [key, child] : node.members()) entries.emplace_back(key, from_json(child));
    return dict(std::move(entries));
  }
  if (const std::string found = node.found(); found == "true" || found == "false")
    return found == "true";
  else if (found.find_first_of(".eEn") != found.npos)
    return node.number();
  return node.integer(INT64_MIN, INT64_MAX);
}

const JinjaValue* JinjaValue::find(std::string_view key) const {
  if (const Dict* dict = entries()) {
    for (const auto& [name, value] : *dict) {
      if (name == key) return &value;
    }
  }
  return nullptr;
}

double JinjaValue::number() const {
  if (const bool* b = get<bool>()) return *b;
  if (const int64_t* i = get<int64_t>()) return double(*i);
  if (const double* d = get<double>()) return *d;
  fail("expected a number, found a {}", kind_of(*this));
}

bool is_true(const JinjaValue& v) {
  if (v.is_undefined() || v.is_none()) return false;
  if (v.is_number()) return v.number() != 0;
  if (const std::string* text = v.text()) return !text->empty();
  if (const auto* list = v.items()) return !list->empty();
  if (const auto* dict = v.entries()) return v.is_namespace || !dict->empty();
  return true;
}

bool is_equal(const JinjaValue& a, const JinjaValue& b) {
  if (++comparisons > kMaxComparisons) fail("more than {} comparisons", kMaxComparisons);
  if (a.is_number() && b.is_number()) {
    const int64_t *i = a.get<int64_t>(), *j = b.get<int64_t>();
    return i && j ? *i == *j : a.number() == b.number();
  }
  if (a.text() && b.text()) return *a.text() == *b.text();
  if (const auto* x = a.items(), *y = b.items(); x && y) {
    return std::equal(x->begin(), x->end(), y->begin(), y->end(), is_equal);
  }
  if (const auto* x = a.entries(), *y = b.entries(); x && y) {
    if (x->size() != y->size()) return false;
    for (const auto& [key, value] : *x) {
      const JinjaValue* other = b.find(key);
      if (other == nullptr || !is_equal(value, *other)) return false;
    }
    return true;
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool is_less(const JinjaValue& a, const JinjaValue& b) {
  if (++comparisons > kMaxComparisons) fail("more than {} comparisons", kMaxComparisons);
  if (a.is_number() && b.is_number()) {
    const int64_t *i = a.get<int64_t>(), *j = b.get<int64_t>();
    return i && j ? *i < *j : a.number() < b.number();
  }
  if (a.text() && b.text()) return *a.text() < *b.text();  // UTF-8 sorts as code points do
  if (const auto* x = a.items(), *y = b.items(); x && y) {
    return std::lexicographical_compare(x->begin(), x->end(), y->begin(), y->end(), is_less);
  }
  fail("cannot compare a {} with a {}", kind_of(a), kind_of(b));
}

std::string_view kind_of(const JinjaValue& v) {
  if (v.is_namespace) return "namespace";
  constexpr std::string_view kNames[] = {"undefined", "NoneType", "bool", "int",      "float",
                                         "str",       "list",     "dict", "function", "loop"};
  return kNames[v.data.index()];
}

std::string to_text(const JinjaValue& v) {
  if (v.is_undefined()) return "";
  if (const std::string* text = v.text()) return *text;
  return to_repr(v);
}

std::string to_repr(const JinjaValue& v) { return repr_at(v, 0); }

std::string to_json(const JinjaValue& v, const JinjaJsonStyle& style) {
  JsonWriter writer{style, {}};
  writer.write(v, 0);
  return std::move(writer.out);
}

}  // namespace flashrt
