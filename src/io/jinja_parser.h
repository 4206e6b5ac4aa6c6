// Jinja templates → syntax tree.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/jinja_value.h"

namespace flashrt {

struct JinjaNode;
using JinjaNodePtr = std::unique_ptr<JinjaNode>;

enum class JinjaKind {
  // expressions
  constant,
  name,
  list,
  dict,
  attribute,
  item,
  slice,
  call,
  filter,
  test,
  unary,
  binary,
  compare,
  conditional,
  // statements
  block,
  text,
  print,
  branch,
  loop,
  set,
  set_attribute,
  set_block,
  macro,
  filter_block,
  leave,
  next
};

// One node; what the fields hold is said beside each kind in the parser.
struct JinjaNode {
  JinjaKind kind;
  int line = 0, height = 1;            // height: of the expression below
  std::string name;                    // identifier, operator, literal text
  JinjaValue value;                    // constant
  std::vector<JinjaNodePtr> children;  // operands, then arguments; entries may be null where optional
  std::vector<std::pair<std::string, JinjaNodePtr>> named;  // keyword arguments, parameter defaults
  std::vector<std::string> names;  // loop and set targets, parameters, comparison operators
  JinjaNodePtr body, otherwise;    // block and else-block
};

// With trim_blocks and lstrip_blocks, and the last line end dropped, as chat templates expect. Throws
// Error(input) naming `source` and the line. At most 256 KiB; nesting is bounded.
JinjaNodePtr parse_jinja(std::string_view text, const std::string& source);

}  // namespace flashrt
