// Character classes of regular expressions as the training libraries know them.
#pragma once

#include <string>
#include <string_view>

namespace flashrt {

// Rewrites `\s \S \p{L} \p{N} \p{M}` of a pattern so that PCRE2 10.42 (Unicode 14) agrees with Oniguruma and
// Unicode 16: letters, numbers and marks assigned since are added, and U+180E is no space.
std::string modern_classes(std::string_view pattern);

}  // namespace flashrt
