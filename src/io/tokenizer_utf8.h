// UTF-8 as the tokenizers need it: strict validation, one code point at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flashrt {

inline constexpr uint32_t kReplacementChar = 0xfffd;
inline constexpr std::string_view kReplacementText = "\xEF\xBF\xBD";

struct CodePoint {
  uint32_t value = kReplacementChar;
  uint32_t size = 0;  // bytes; 0 when the sequence is malformed (overlong, surrogate, cut, beyond U+10FFFF)
};

inline CodePoint code_point_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? uint8_t(text[at + i]) : uint8_t(0); };
  const auto tail = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint32_t b = byte(0);
  if (b < 0x80) return {b, 1};
  if (b < 0xe0 && tail(1)) {
    const uint32_t v = (b & 0x1f) << 6 | (byte(1) & 0x3f);
    if (b >= 0xc2) return {v, 2};
  } else if (b >= 0xe0 && b < 0xf0 && tail(1) && tail(2)) {
    const uint32_t v = (b & 0x0f) << 12 | uint32_t(byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
    if (v >= 0x800 && (v < 0xd800 || v > 0xdfff)) return {v, 3};
  } else if (b >= 0xf0 && b < 0xf5 && tail(1) && tail(2) && tail(3)) {
    const uint32_t v =
        (b & 0x07) << 18 | uint32_t(byte(1) & 0x3f) << 12 | uint32_t(byte(2) & 0x3f) << 6 | (byte(3) & 0x3f);
    if (v >= 0x10000 && v <= 0x10ffff) return {v, 4};
  }
  return {};
}

inline void append_utf8(std::string& out, uint32_t v) {
  if (v < 0x80) {
    out += char(v);
  } else if (v < 0x800) {
    out += char(0xc0 | v >> 6);
    out += char(0x80 | (v & 0x3f));
  } else if (v < 0x10000) {
    out += char(0xe0 | v >> 12);
    out += char(0x80 | (v >> 6 & 0x3f));
    out += char(0x80 | (v & 0x3f));
  } else {
    out += char(0xf0 | v >> 18);
    out += char(0x80 | (v >> 12 & 0x3f));
    out += char(0x80 | (v >> 6 & 0x3f));
    out += char(0x80 | (v & 0x3f));
  }
}

// The first byte of a malformed sequence; the text's size when there is none.
inline size_t invalid_utf8_at(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const uint32_t size = code_point_at(text, i).size;
    if (size == 0) break;
    i += size;
  }
  return i;
}
inline bool is_valid_utf8(std::string_view text) { return invalid_utf8_at(text) == text.size(); }

// Bytes of the malformed part at `at` that could begin a well-formed sequence; at least 1.
inline uint32_t incomplete_prefix(std::string_view text, size_t at) {
  const auto lead = uint8_t(text[at]);
  const uint32_t wanted = lead >= 0xc2 && lead < 0xe0   ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 1;
  uint32_t have = 1;
  for (; have < wanted && at + have < text.size(); ++have) {
    const auto b = uint8_t(text[at + have]);
    uint8_t low = 0x80, high = 0xbf;  // the second byte is narrower after some first bytes
    if (have == 1 && lead == 0xe0) low = 0xa0;
    if (have == 1 && lead == 0xed) high = 0x9f;
    if (have == 1 && lead == 0xf0) low = 0x90;
    if (have == 1 && lead == 0xf4) high = 0x8f;
    if (b < low || b > high) break;
  }
  return have;
}

// Every byte that is not part of a well-formed sequence becomes U+FFFD.
inline std::string sanitize_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const uint32_t size = code_point_at(text, i).size;
    out += size ? text.substr(i, size) : kReplacementText;
    i += size ? size : 1;
  }
  return out;
}

// Every maximal malformed part becomes one U+FFFD (Unicode 15, table 3-8: a cut sequence counts once).
inline std::string replace_malformed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (const uint32_t size = code_point_at(text, i).size) {
      out += text.substr(i, size);
      i += size;
      continue;
    }
    out += kReplacementText;
    i += incomplete_prefix(text, i);
  }
  return out;
}

inline void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  std::string out;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size()) {
    out.append(text, begin, at - begin).append(to);
  }
  if (begin == 0) return;
  text = out.append(text, begin);
}

// White_Space of the Unicode character database.
inline bool is_white_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace flashrt
