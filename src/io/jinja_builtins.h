// Filters, tests and methods of the template language.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/jinja_value.h"

namespace flashrt {

struct JinjaArguments {
  std::vector<JinjaValue> list;
  std::vector<std::pair<std::string, JinjaValue>> named;
  // The argument at a position or with a name, or null.
  const JinjaValue* find(size_t index, std::string_view name) const;
};

// What a template may spend: every step, every byte made and every byte written costs.
class JinjaBudget {
 public:
  void step(size_t bytes = 0);
  void made(const JinjaValue& value);  // a new text or list
  void wrote(size_t bytes);

 private:
  size_t steps_ = 0, written_ = 0;
};

JinjaValue jinja_filter(JinjaBudget& budget, std::string_view name, const JinjaValue& value,
                        const JinjaArguments& args);
bool jinja_test(std::string_view name, const JinjaValue& value, const JinjaArguments& args);
JinjaValue jinja_method(JinjaBudget& budget, const JinjaValue& object, std::string_view name,
                        const JinjaArguments& args);
// x.name or x["name"]: undefined where there is none, an error on undefined itself.
JinjaValue jinja_item(const JinjaValue& object, const JinjaValue& key);
JinjaValue jinja_slice(const JinjaValue& object, const JinjaValue& start, const JinjaValue& stop,
                       const JinjaValue& step);
bool jinja_contains(const JinjaValue& container, const JinjaValue& item);
// What a for loop visits: items, keys, characters; nothing for undefined.
std::vector<JinjaValue> jinja_items(const JinjaValue& value);

}  // namespace flashrt
