// Tables of filters and tests, with Jinja 3.1's semantics.
#include "io/jinja_builtins.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "io/jinja_text.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

using namespace jinja;

constexpr size_t kMaxSteps = 1'000'000, kBytesPerStep = 256;

size_t length(const JinjaValue& v) {
  if (v.is_undefined()) return 0;
  if (v.text()) return text_length(*v.text());
  if (const auto* list = v.items()) return list->size();
  if (const auto* dict = v.entries()) return dict->size();
  fail("length: a {} has none", kind_of(v));
}

// "a.b.0" through dicts and lists.
JinjaValue path(const JinjaValue& v, const JinjaValue& attribute) {
  if (!attribute.text()) return jinja_item(v, attribute);
  JinjaValue at = v;
  std::string_view rest = *attribute.text();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view key = rest.substr(0, dot);
    const bool digits = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == key.npos;
    at = jinja_item(at, digits ? JinjaValue(int64_t(std::atoll(std::string(key).c_str()))) : JinjaValue(key));
    if (dot == rest.npos) return at;
    rest.remove_prefix(dot + 1);
  }
}

// select, reject, selectattr, rejectattr.
JinjaValue selected(std::string_view name, const JinjaValue& value, const JinjaArguments& args) {
  const bool by_attribute = name.ends_with("attr"), keep = name.starts_with("select");
  const size_t skip = by_attribute ? 1 : 0;
  if (!is_true(value)) return JinjaValue::list();  // even none
  if (args.list.size() < skip) fail("{}: expected an attribute", name);
  JinjaValue::List out;
  for (const JinjaValue& item : jinja_items(value)) {
    const JinjaValue subject = by_attribute ? path(item, args.list[0]) : item;
    bool hit = is_true(subject);
    if (args.list.size() > skip) {
      hit = jinja_test(text_of(&args.list[skip], name), subject,
                       {JinjaValue::List(args.list.begin() + long(skip) + 1, args.list.end()), {}});
    }
    if (hit == keep) out.push_back(item);
  }
  return JinjaValue::list(std::move(out));
}

JinjaValue sorted(const JinjaValue& value, const JinjaArguments& args) {
  const JinjaValue *reverse = args.find(0, "reverse"), *cased = args.find(1, "case_sensitive"),
                   *attribute = args.find(2, "attribute");
  std::vector<std::pair<JinjaValue, JinjaValue>> keyed;
  for (const JinjaValue& item : jinja_items(value)) {
    JinjaValue key = attribute && !attribute->is_none() ? path(item, *attribute) : item;
    if (key.text() && !(cased && is_true(*cased))) key = lower(*key.text());
    keyed.emplace_back(std::move(key), item);
  }
  const bool backwards = reverse && is_true(*reverse);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return backwards ? is_less(b.first, a.first) : is_less(a.first, b.first);
  });
  JinjaValue::List out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return JinjaValue::list(std::move(out));
}

JinjaValue map_items(JinjaBudget& budget, const JinjaValue& value, const JinjaArguments& args) {
  if (!is_true(value)) return JinjaValue::list();  // even none
  const JinjaValue* attribute = args.find(99, "attribute");
  const JinjaValue* fallback = args.find(99, "default");
  JinjaValue::List out;
  for (const JinjaValue& item : jinja_items(value)) {
    budget.step();
    if (attribute) {
      JinjaValue found = path(item, *attribute);
      out.push_back(found.is_undefined() && fallback ? *fallback : found);
    } else {
      if (args.list.empty()) fail("map: expected a filter or an attribute");
      out.push_back(jinja_filter(budget, text_of(&args.list[0], "map"), item,
                                 {JinjaValue::List(args.list.begin() + 1, args.list.end()), args.named}));
    }
  }
  return JinjaValue::list(std::move(out));
}

JinjaValue join(const JinjaValue& value, const JinjaArguments& args) {
  const JinjaValue *between = args.find(0, "d"), *attribute = args.find(1, "attribute");
  std::vector<JinjaValue> items = jinja_items(value);
  if (attribute && !attribute->is_none()) {
    for (JinjaValue& item : items) item = path(item, *attribute);
  }
  return joined(items, between ? to_text(*between) : "");
}

JinjaValue entries(const JinjaValue& dict, bool sort) {
  if (dict.is_undefined()) return JinjaValue::list();
  if (!dict.entries()) fail("items: expected a dict, found a {}", kind_of(dict));
  auto all = *dict.entries();
  if (sort) {  // dictsort: case does not matter
    std::stable_sort(all.begin(), all.end(),
                     [](auto& a, auto& b) { return lower(a.first) < lower(b.first); });
  }
  JinjaValue::List out;
  for (auto& [key, value] : all) out.push_back(JinjaValue::list({key, value}));
  return JinjaValue::list(std::move(out));
}

JinjaValue to_integer(const JinjaValue& v, const JinjaArguments& args) {
  const JinjaValue* fallback = args.find(0, "default");
  const JinjaValue other = fallback ? *fallback : JinjaValue(0);
  if (v.text()) {
    const std::string text(trim(*v.text(), "", true, true));
    char* end = nullptr;
    const double d = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != 0 || !(std::abs(d) < 9e18)) return other;
    return text.find_first_of(".eE") == text.npos ? int64_t(std::strtoll(text.c_str(), nullptr, 10))
                                                  : int64_t(d);
  }
  if (!v.is_number()) return other;
  if (const int64_t* i = v.get<int64_t>()) return *i;
  return std::abs(v.number()) < 9e18 ? JinjaValue(int64_t(v.number())) : other;
}

JinjaValue to_float(const JinjaValue& v, const JinjaArguments& args) {
  const JinjaValue* fallback = args.find(0, "default");
  if (v.is_number()) return v.number();
  if (v.text()) {
    const std::string text(trim(*v.text(), "", true, true));
    char* end = nullptr;
    const double d = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == 0) return d;
  }
  return fallback ? *fallback : JinjaValue(0.0);
}

std::string indented(const JinjaValue& v, const JinjaArguments& args) {
  const JinjaValue *width = args.find(0, "width"), *first = args.find(1, "first"),
                   *blank = args.find(2, "blank");
  const std::string pad =
      width && width->text()
          ? *width->text()
          : std::string(size_t(std::clamp<int64_t>(width ? integer(*width, "indent") : 4, 0, 256)), ' ');
  const std::string text = to_text(v);
  std::string out = first && is_true(*first) ? pad : "";
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (at > 0 && (end > at || (blank && is_true(*blank)))) out += pad;
    out.append(text, at, end - at);
    if (end < text.size()) out += '\n';
    at = end + 1;
    if (out.size() > kMaxText) fail("indent: more than {} bytes", kMaxText);
  }
  return out;
}

std::string json(const JinjaValue& v, const JinjaArguments& args) {
  const JinjaValue *ascii = args.find(0, "ensure_ascii"), *indent = args.find(1, "indent"),
                   *separators = args.find(2, "separators"), *sort = args.find(3, "sort_keys");
  JinjaJsonStyle style{.sort_keys = sort && is_true(*sort), .ascii = ascii && is_true(*ascii)};
  if (indent && !indent->is_none()) {
    style.indent = int(std::clamp<int64_t>(integer(*indent, "tojson"), 0, 16));
    style.item_separator.pop_back();  // lines need no space after the comma
  }
  if (separators && separators->items() && separators->items()->size() == 2) {
    style.item_separator = to_text((*separators->items())[0]);
    style.key_separator = to_text((*separators->items())[1]);
  }
  return to_json(v, style);
}

JinjaValue extreme(std::string_view name, const JinjaValue& value, const JinjaArguments& args) {
  const JinjaValue* attribute = args.find(1, "attribute");
  JinjaValue best;
  for (const JinjaValue& item : jinja_items(value)) {
    const auto key = [&](const JinjaValue& v) { return attribute ? path(v, *attribute) : v; };
    if (best.is_undefined() ||
        (name == "min" ? is_less(key(item), key(best)) : is_less(key(best), key(item))))
      best = item;
  }
  return best;
}

JinjaValue unique(const JinjaValue& value) {
  JinjaValue::List out;
  for (const JinjaValue& item : jinja_items(value)) {
    const auto same = [&](const JinjaValue& other) {
      return item.text() && other.text() ? lower(*item.text()) == lower(*other.text())
                                         : is_equal(item, other);
    };
    if (std::none_of(out.begin(), out.end(), same)) out.push_back(item);
  }
  return JinjaValue::list(std::move(out));
}

}  // namespace

const JinjaValue* JinjaArguments::find(size_t index, std::string_view name) const {
  if (index < list.size()) return &list[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

void JinjaBudget::step(size_t bytes) {
  if ((steps_ += 1 + bytes / kBytesPerStep) > kMaxSteps)
    fail("the template takes more than {} steps", kMaxSteps);
}

void JinjaBudget::made(const JinjaValue& value) {
  size_t bytes = 0;
  if (const std::string* text = value.text()) bytes = text->size();
  if (const auto* list = value.items()) {
    bytes = list->size() * sizeof(JinjaValue);
    for (const JinjaValue& item : *list) bytes += item.text() ? item.text()->size() : 0;
  }
  if (value.text() && bytes > kMaxText) fail("a text of more than {} bytes", kMaxText);
  step(bytes);
}

void JinjaBudget::wrote(size_t bytes) {
  if ((written_ += bytes) > kMaxText) fail("the template writes more than {} bytes", kMaxText);
}

JinjaValue jinja_filter(JinjaBudget& budget, std::string_view name, const JinjaValue& v,
                        const JinjaArguments& args) {
  budget.step();
  if (name == "tojson") return json(v, args);
  if (name == "length" || name == "count") return int64_t(length(v));
  if (name == "trim") {
    const JinjaValue* chars = args.find(0, "chars");
    const std::string text = to_text(v);
    return trim(text, chars && chars->text() ? *chars->text() : "", true, true);
  }
  if (name == "string" || name == "safe") return to_text(v);
  if (name == "upper") return upper(to_text(v));
  if (name == "lower") return lower(to_text(v));
  if (name == "capitalize") return capitalize(to_text(v));
  if (name == "title") return title(to_text(v));
  if (name == "default" || name == "d") {
    const JinjaValue *fallback = args.find(0, "default_value"), *falsy = args.find(1, "boolean");
    const bool missing = v.is_undefined() || (falsy && is_true(*falsy) && !is_true(v));
    return missing ? (fallback ? *fallback : JinjaValue("")) : v;
  }
  if (name == "items") return entries(v, false);
  if (name == "dictsort") return entries(v, true);
  if (name == "join") return join(v, args);
  if (name == "list") return JinjaValue::list(jinja_items(v));
  if (name == "map") return map_items(budget, v, args);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr")
    return selected(name, v, args);
  if (name == "sort") return sorted(v, args);
  if (name == "unique") return unique(v);
  if (name == "min" || name == "max") return extreme(name, v, args);
  if (name == "replace") {
    const JinjaValue *from = args.find(0, "old"), *to = args.find(1, "new"), *count = args.find(2, "count");
    const bool all = count == nullptr || count->is_none();
    return replaced(to_text(v), text_of(from, "replace"), text_of(to, "replace"),
                    all ? -1 : integer(*count, "replace"));
  }
  if (name == "first" || name == "last") {
    const auto items = jinja_items(v);
    return items.empty() ? JinjaValue() : name == "first" ? items.front() : items.back();
  }
  if (name == "reverse") {
    auto items = jinja_items(v);
    std::reverse(items.begin(), items.end());
    if (!v.text()) return JinjaValue::list(std::move(items));
    return joined(items, "");
  }
  if (name == "int") return to_integer(v, args);
  if (name == "float") return to_float(v, args);
  if (name == "abs") {
    if (const int64_t* i = v.get<int64_t>(); i && *i != INT64_MIN) return *i < 0 ? -*i : *i;
    return std::abs(v.number());
  }
  if (name == "sum") {
    JinjaValue total = int64_t{0};
    for (const JinjaValue& item : jinja_items(v)) {
      const JinjaValue* attribute = args.find(0, "attribute");
      const JinjaValue part = attribute ? path(item, *attribute) : item;
      int64_t sum = 0;
      const int64_t *a = total.get<int64_t>(), *b = part.get<int64_t>();
      if (a && b && !__builtin_add_overflow(*a, *b, &sum))
        total = sum;
      else
        total = total.number() + part.number();
    }
    return total;
  }
  if (name == "indent") return indented(v, args);
  fail("the filter '{}' is not supported", name);
}

bool jinja_test(std::string_view name, const JinjaValue& v, const JinjaArguments& args) {
  const auto other = [&]() -> const JinjaValue& {
    if (args.list.size() != 1) fail("the test '{}' takes one argument", name);
    return args.list[0];
  };
  const bool* boolean = v.get<bool>();
  if (name == "defined") return !v.is_undefined();
  if (name == "undefined") return v.is_undefined();
  if (name == "none") return v.is_none();
  if (name == "string") return v.text() != nullptr;
  if (name == "mapping") return v.entries() != nullptr;
  if (name == "iterable") return v.text() || v.items() || v.entries() || v.is_undefined();
  if (name == "sequence") return v.text() || v.items() || v.entries();
  if (name == "number") return v.is_number();
  if (name == "integer") return v.get<int64_t>() != nullptr;
  if (name == "float") return v.get<double>() != nullptr;
  if (name == "boolean") return boolean != nullptr;
  if (name == "true") return boolean && *boolean;
  if (name == "false") return boolean && !*boolean;
  if (name == "callable") return v.get<std::shared_ptr<const JinjaMacro>>() != nullptr;
  if (name == "odd" || name == "even") return (integer(v, name) % 2 != 0) == (name == "odd");
  if (name == "divisibleby") {
    const int64_t by = integer(other(), name);
    if (by == 0) fail("divisibleby: division by zero");
    return by == -1 || integer(v, name) % by == 0;
  }
  if (name == "eq" || name == "equalto" || name == "==") return is_equal(v, other());
  if (name == "ne" || name == "!=") return !is_equal(v, other());
  if (name == "lt" || name == "lessthan" || name == "<") return is_less(v, other());
  if (name == "gt" || name == "greaterthan" || name == ">") return is_less(other(), v);
  if (name == "le" || name == "<=") return !is_less(other(), v);
  if (name == "ge" || name == ">=") return !is_less(v, other());
  if (name == "in") return jinja_contains(other(), v);
  if (name == "lower") return to_text(v) == lower(to_text(v)) && to_text(v) != upper(to_text(v));
  if (name == "upper") return to_text(v) == upper(to_text(v)) && to_text(v) != lower(to_text(v));
  fail("the test '{}' is not supported", name);
}

JinjaValue jinja_method(JinjaBudget& budget, const JinjaValue& object, std::string_view name,
                        const JinjaArguments& args) {
  budget.step();
  if (const std::string* text = object.text()) return text_method(*text, name, args);
  const JinjaValue* first = args.list.empty() ? nullptr : &args.list[0];
  if (const auto* dict = object.entries()) {
    if (name == "items") return entries(object, false);
    if (name == "keys") return JinjaValue::list(jinja_items(object));
    if (name == "values") {
      JinjaValue::List out;
      for (const auto& entry : *dict) out.push_back(entry.second);
      return JinjaValue::list(std::move(out));
    }
    if (name == "get") {
      const JinjaValue* found = first && first->text() ? object.find(*first->text()) : nullptr;
      return found ? *found : args.list.size() > 1 ? args.list[1] : JinjaValue(nullptr);
    }
  }
  if (const auto* list = object.items(); list && first && (name == "index" || name == "count")) {
    int64_t hits = 0;
    for (size_t i = 0; i < list->size(); ++i) {
      if (!is_equal((*list)[i], *first)) continue;
      if (name == "index") return int64_t(i);
      ++hits;
    }
    if (name == "index") fail("index: the value is not in the list");
    return hits;
  }
  fail("a {} has no method '{}' that templates may use", kind_of(object), name);
}

JinjaValue jinja_item(const JinjaValue& object, const JinjaValue& key) {
  if (const auto* u = object.get<JinjaUndefined>()) fail("'{}' is undefined", u->name);
  if (key.text()) {
    const JinjaValue* found = object.find(*key.text());
    return found ? *found : JinjaValue(JinjaUndefined{*key.text()});
  }
  const int64_t* index = key.get<int64_t>();
  if (index && (object.items() || object.text())) {
    const auto count = int64_t(length(object)), at = *index < 0 ? *index + count : *index;
    if (at >= 0 && at < count)
      return object.items() ? (*object.items())[size_t(at)] : jinja_items(object)[size_t(at)];
  }
  return JinjaUndefined{to_text(key)};
}

JinjaValue jinja_slice(const JinjaValue& object, const JinjaValue& start, const JinjaValue& stop,
                       const JinjaValue& step) {
  if (!object.text() && !object.items()) {
    if (const auto* u = object.get<JinjaUndefined>()) fail("'{}' is undefined", u->name);
    return JinjaUndefined{"slice"};
  }
  const auto items = jinja_items(object);
  const auto count = int64_t(items.size());
  const auto given = [](const JinjaValue& v) { return !v.is_undefined() && !v.is_none(); };
  const int64_t by = given(step) ? std::clamp<int64_t>(integer(step, "slice"), -count - 1, count + 1) : 1;
  if (by == 0) fail("slice: the step is zero");
  const auto bound = [&](const JinjaValue& v, int64_t fallback) {
    if (!given(v)) return fallback;
    int64_t at = integer(v, "slice");
    if (at < 0) at = at < -count ? -1 - count : at + count;
    return by > 0 ? std::clamp<int64_t>(at, 0, count) : std::clamp<int64_t>(at, -1, count - 1);
  };
  JinjaValue::List out;
  const int64_t end = bound(stop, by > 0 ? count : -1);
  for (int64_t i = bound(start, by > 0 ? 0 : count - 1); by > 0 ? i < end : i > end; i += by)
    out.push_back(items[size_t(i)]);
  JinjaValue result = JinjaValue::list(std::move(out));
  return object.text() ? joined(*result.items(), "") : result;
}

bool jinja_contains(const JinjaValue& container, const JinjaValue& item) {
  if (container.is_undefined()) return false;
  if (const std::string* text = container.text())
    return text->find(text_of(&item, "in")) != std::string::npos;
  if (container.entries()) return item.text() && container.find(*item.text());
  if (const auto* list = container.items()) {
    return std::any_of(list->begin(), list->end(), [&](const JinjaValue& v) { return is_equal(v, item); });
  }
  fail("in: a {} contains nothing", kind_of(container));
}

std::vector<JinjaValue> jinja_items(const JinjaValue& v) {
  if (v.is_undefined()) return {};
  if (const auto* list = v.items()) return *list;
  std::vector<JinjaValue> out;
  if (const auto* dict = v.entries(); dict && !v.is_namespace) {
    for (const auto& entry : *dict) out.push_back(entry.first);
    return out;
  }
  if (const std::string* text = v.text()) {
    for (size_t i = 0; i < text->size();) {
      const size_t size = std::max(code_point_at(*text, i).size, 1u);
      out.push_back(text->substr(i, size));
      i += size;
    }
    return out;
  }
  fail("a {} cannot be iterated over", kind_of(v));
}

}  // namespace flashrt
