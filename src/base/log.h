// Messages to people, on stderr; never called on the hot path.
#pragma once

#include <fmt/format.h>

#include <cstdio>

namespace flashrt {

enum class LogLevel { quiet, warn, info, debug };
inline LogLevel g_log_level = LogLevel::info;

template <class... Args>
void log_at(LogLevel level, const char* prefix, fmt::format_string<Args...> format, Args&&... args) {
  if (level > g_log_level) return;
  fmt::print(stderr, "{}{}\n", prefix, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::info, "", format, std::forward<Args>(args)...);
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::warn, "warning: ", format, std::forward<Args>(args)...);
}

}  // namespace flashrt
