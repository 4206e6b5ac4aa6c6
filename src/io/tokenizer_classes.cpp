// The rewrite, and the ranges that Unicode 15 to 16 assigned (Unicode character database,
// DerivedGeneralCategory).
#include "io/tokenizer_classes.h"

#include <utility>

namespace flashrt {

namespace {

constexpr std::string_view kLetters =
    R"(\x{1c89}\x{1c8a}\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{105c0}-\x{105f3}\x{10d4a}-\x{10d65}\x{10d6f}-\x{10d85})"
    R"(\x{10ec2}-\x{10ec4}\x{1123f}\x{11240}\x{11380}-\x{11389}\x{1138b}\x{1138e}\x{11390}-\x{113b5}\x{113b7}\x{113d1})"
    R"(\x{113d3}\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10}\x{11f12}-\x{11f33}\x{1342f}\x{13441}-\x{13446})"
    R"(\x{13460}-\x{143fa}\x{16100}-\x{1611d}\x{16d40}-\x{16d6c}\x{18cff}\x{1b132}\x{1b155}\x{1df25}-\x{1df2a})"
    R"(\x{1e030}-\x{1e06d}\x{1e4d0}-\x{1e4eb}\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739}\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})";
constexpr std::string_view kNumbers =
    R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59}\x{16130}-\x{16139})"
    R"(\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1d2c0}-\x{1d2d3}\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa})";
constexpr std::string_view kMarks =
    R"(\x{897}\x{cf3}\x{ece}\x{10d69}-\x{10d6d}\x{10efc}-\x{10eff}\x{11241}\x{113b8}-\x{113c0}\x{113c2}\x{113c5})"
    R"(\x{113c7}-\x{113ca}\x{113cc}-\x{113d0}\x{113d2}\x{113e1}\x{113e2}\x{11f00}\x{11f01}\x{11f03}\x{11f34}-\x{11f3a})"
    R"(\x{11f3e}-\x{11f42}\x{11f5a}\x{13440}\x{13447}-\x{13455}\x{1611e}-\x{1612f}\x{1e08f}\x{1e4ec}-\x{1e4ef})"
    R"(\x{1e5ee}\x{1e5ef})";
constexpr std::string_view kSpaces =
    R"(\t-\r\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// What stands between [ and ] for an escape, or nothing when the escape stays as it is.
std::string members_of(std::string_view escape) {
  if (escape == "\\s" || escape == "\\S") return std::string(kSpaces);
  if (escape == "\\p{L}") return std::string(escape).append(kLetters);
  if (escape == "\\p{N}") return std::string(escape).append(kNumbers);
  if (escape == "\\p{M}") return std::string(escape).append(kMarks);
  return {};
}

}  // namespace

std::string modern_classes(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size();) {
    if (pattern[i] == '\\') {
      const bool property = pattern.substr(i).starts_with("\\p{");
      const size_t end = property ? pattern.find('}', i) : i + 1;
      const std::string_view escape = pattern.substr(i, end == pattern.npos ? pattern.npos : end + 1 - i);
      const std::string members = members_of(escape);
      if (members.empty() || (in_class && escape == "\\S")) {
        out += escape;
      } else if (in_class) {
        out += members;
      } else {
        out += (escape == "\\S" ? "[^" : "[") + members + "]";
      }
      i += escape.size();
      continue;
    }
    if (!in_class && pattern[i] == '[') {
      in_class = true;
      out += pattern[i++];
      if (i < pattern.size() && pattern[i] == '^') out += pattern[i++];
      if (i < pattern.size() && pattern[i] == ']') out += pattern[i++];  // a literal one
      continue;
    }
    if (in_class && pattern.substr(i).starts_with("[:")) {  // [:alpha:]
      const size_t end = pattern.find(":]", i + 2);
      const size_t size = end == pattern.npos ? 2 : end + 2 - i;
      out += pattern.substr(i, size);
      i += size;
      continue;
    }
    if (pattern[i] == ']') in_class = false;
    out += pattern[i++];
  }
  return out;
}

}  // namespace flashrt
