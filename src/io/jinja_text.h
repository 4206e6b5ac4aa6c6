// Text functions of the template language, by Python's rules for str.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/jinja_builtins.h"

namespace flashrt::jinja {

inline constexpr size_t kMaxText = 4 << 20;  // bytes of one text

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
// Drops the characters in `chars`, or white space where it is empty, at either end.
std::string_view trim(std::string_view text, std::string_view chars, bool left, bool right);
std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count);
size_t text_length(std::string_view text);  // in code points
std::string joined(const std::vector<JinjaValue>& items, std::string_view separator);

// Arguments, with an error that names the function.
int64_t integer(const JinjaValue& v, std::string_view what);
const std::string& text_of(const JinjaValue* v, std::string_view what);

JinjaValue text_method(const std::string& text, std::string_view name, const JinjaArguments& args);

}  // namespace flashrt::jinja
