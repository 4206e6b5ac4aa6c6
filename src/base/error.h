// Errors: one exception type that carries the process exit code; `fail` formats and throws it.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace flashrt {

// What went wrong decides the exit code of the command line: bad input 2, everything else 1.
enum class ErrorKind { input, device, internal };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return kind_ == ErrorKind::input ? 2 : 1; }

 private:
  ErrorKind kind_;
};

// Bad input: a message names the file, the field, what was expected and what was found.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::input, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_device(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::device, fmt::format(format, std::forward<Args>(args)...));
}

// A broken invariant of our own; never for bad input.
inline void check(bool ok, const char* what, std::source_location at = std::source_location::current()) {
  if (!ok) {
    throw Error(ErrorKind::internal,
                fmt::format("{}:{}: internal error: {}", at.file_name(), at.line(), what));
  }
}

}  // namespace flashrt
