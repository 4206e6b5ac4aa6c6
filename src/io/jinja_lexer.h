// Jinja source → tokens; white-space control happens here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace flashrt {

struct JinjaToken {
  enum Type { data, print_begin, print_end, tag_begin, tag_end, name, text, integer, real, op, end } type;
  std::string value;
  int line;
};

std::vector<JinjaToken> lex_jinja(std::string_view text, const std::string& source);

}  // namespace flashrt
