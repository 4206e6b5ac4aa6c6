// Renders a parsed template: no host objects, no side effects, bounded steps, depth and output.
#pragma once

#include <cstdint>
#include <string>

#include "io/jinja_parser.h"

namespace flashrt {

// `globals`: a dict of the variables the template sees. `now`: seconds since 1970 for strftime_now, in local
// time. Throws Error(input) with `source` and the line; raise_exception of the template among them.
std::string render_jinja(const JinjaNode& root, const JinjaValue& globals, int64_t now,
                         const std::string& source);

}  // namespace flashrt
