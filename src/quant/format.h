// The packed number formats by name; each has a header of its own beside this one.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace flashrt::quant {

enum class Format : uint8_t { fp8, int8, int4, nvfp4 };

constexpr std::string_view name_of(Format f) {
  switch (f) {
    case Format::fp8: return "fp8";
    case Format::int8: return "int8";
    case Format::int4: return "int4";
    case Format::nvfp4: return "nvfp4";
  }
  return "?";
}

constexpr std::optional<Format> format_of(std::string_view name) {
  for (const Format f : {Format::fp8, Format::int8, Format::int4, Format::nvfp4}) {
    if (name_of(f) == name) return f;
  }
  return std::nullopt;
}

constexpr int bits_of(Format f) { return f == Format::fp8 || f == Format::int8 ? 8 : 4; }

}  // namespace flashrt::quant
