// Values of the template language: Python's scalars, lists and dicts, by Python's rules of truth, order and
// printing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "io/json.h"

namespace flashrt {

struct JinjaUndefined {
  std::string name;  // for messages
};
struct JinjaMacro;  // callable: a macro of the template, or a built-in function
struct JinjaLoop;   // `loop` inside a for

struct JinjaValue {
  using List = std::vector<JinjaValue>;
  using Dict = std::vector<std::pair<std::string, JinjaValue>>;  // in insertion order
  using Data = std::variant<JinjaUndefined, std::nullptr_t, bool, int64_t, double, std::string,
                            std::shared_ptr<List>, std::shared_ptr<Dict>, std::shared_ptr<const JinjaMacro>,
                            std::shared_ptr<const JinjaLoop>>;
  Data data;
  bool is_namespace = false;  // a dict whose entries `set ns.x` may change
  uint8_t depth = 0;          // of containers in containers

  JinjaValue() = default;
  template <class T>
  requires std::is_constructible_v<Data, T> JinjaValue(T value) : data(std::move(value)) {}
  JinjaValue(const char* text) : data(std::string(text)) {}
  JinjaValue(std::string_view text) : data(std::string(text)) {}
  JinjaValue(int value) : data(int64_t{value}) {}
  // Containers hold plain data only, at most 64 deep: no cycles, and destruction cannot run away.
  static JinjaValue list(List items = {});
  static JinjaValue dict(Dict items = {});
  static JinjaValue from_json(const JsonNode& node);

  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  bool is_undefined() const { return get<JinjaUndefined>() != nullptr; }
  bool is_none() const { return get<std::nullptr_t>() != nullptr; }
  const std::string* text() const { return get<std::string>(); }
  const List* items() const {
    const auto* p = get<std::shared_ptr<List>>();
    return p ? p->get() : nullptr;
  }
  const Dict* entries() const {
    const auto* p = get<std::shared_ptr<Dict>>();
    return p ? p->get() : nullptr;
  }
  const JinjaValue* find(std::string_view key) const;  // of a dict, or null
  bool is_number() const { return get<bool>() || get<int64_t>() || get<double>(); }
  double number() const;  // of a bool, integer or float
};

bool is_true(const JinjaValue& v);
// Shared parts make deep comparisons exponential: an error after ten million steps since the count was reset.
void reset_comparisons();
bool is_equal(const JinjaValue& a, const JinjaValue& b);
bool is_less(const JinjaValue& a, const JinjaValue& b);  // numbers, strings, lists; else an error
std::string_view kind_of(const JinjaValue& v);           // Python's type name, for messages
std::string to_text(const JinjaValue& v);                // str()
std::string to_repr(const JinjaValue& v);                // repr()
// json.dumps with the same options.
struct JinjaJsonStyle {
  int indent = -1;  // < 0: on one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false, ascii = false;
};
std::string to_json(const JinjaValue& v, const JinjaJsonStyle& style = {});

}  // namespace flashrt
