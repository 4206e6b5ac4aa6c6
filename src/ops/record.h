// What every op needs to record its line: checks that name the model's source line.
#pragma once

#include "base/error.h"
#include "tape/program.h"
#include "tape/reference.h"

namespace flashrt {

// A shape or type rule broken by the model's text: "pi0.cpp:45: linear: x has 1024 columns, w expects 2048".
template <class... Args>
void require(bool ok, At at, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok)
    throw Error(ErrorKind::internal,
                fmt::format("{}: {}", to_string(at), fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace flashrt
