// The .npy reader and writer: the header is a Python dict literal of exactly three entries.
#include "io/npy.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"

namespace flashrt {

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 65536, kMaxRank = 16;

// Reads the dict literal. Anything but the grammar that numpy writes is an error.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  std::vector<int64_t> read() {
    std::vector<int64_t> shape;
    bool descr = false, order = false, shaped = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        const std::string_view type = quoted();
        if (type != "<f4")
          fail("{}: npy: descr: expected '<f4' (float32, little endian), found '{}'", source_, type);
      } else if (key == "fortran_order" && !order) {
        order = true;
        if (!accept_word("False")) fail("{}: npy: fortran_order: expected False", source_);
      } else if (key == "shape" && !shaped) {
        shaped = true;
        shape = tuple();
      } else {
        fail("{}: npy: unexpected header field '{}'", source_, key);
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!descr || !order || !shaped) fail("{}: npy: the header lacks descr, fortran_order or shape", source_);
    skip_space();
    if (!text_.empty()) malformed("the end of the header");
    return shape;
  }

 private:
  void skip_space() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n')) text_.remove_prefix(1);
  }
  bool accept(char c) {
    skip_space();
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }
  void expect(char c) {
    if (!accept(c)) malformed(std::string_view(&c, 1));
  }
  std::string_view quoted() {
    expect('\'');
    const size_t end = text_.find('\'');
    if (end > 64) malformed("a closing quote");  // npos too
    const std::string_view result = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return result;
  }
  int64_t integer() {
    skip_space();
    int64_t value = 0;
    size_t digits = 0;
    for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
      if (digits == 15) malformed("a dimension of at most 15 digits");
      value = value * 10 + (text_[digits] - '0');
    }
    if (digits == 0) malformed("a dimension");
    text_.remove_prefix(digits);
    return value;
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> shape;
    expect('(');
    while (!accept(')')) {
      if (shape.size() == kMaxRank) fail("{}: npy: more than {} dimensions", source_, kMaxRank);
      shape.push_back(integer());
      if (!accept(',')) {
        if (shape.size() == 1) malformed("a comma: a tuple of one");
        expect(')');
        break;
      }
    }
    return shape;
  }
  [[noreturn]] void malformed(std::string_view expected) {
    fail("{}: npy: malformed header: expected {} at '{}'", source_, expected, text_.substr(0, 20));
  }

  std::string_view text_;
  const std::string& source_;
};

size_t load_bytes(std::span<const std::byte> bytes, size_t count) {
  size_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | size_t(bytes[i]);
  return value;
}

}  // namespace

NpyArray parse_npy(std::span<const std::byte> bytes, const std::string& source) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (bytes.size() < 10 || !text.starts_with(kMagic)) fail("{}: not a .npy file", source);
  const int major = int(bytes[6]);
  if (major < 1 || major > 3 || int(bytes[7]) != 0) {
    fail("{}: npy: version {}.{}: expected 1.0, 2.0 or 3.0", source, major, int(bytes[7]));
  }
  const size_t length_bytes = major == 1 ? 2 : 4, begin = 8 + length_bytes;
  if (bytes.size() < begin) fail("{}: npy: truncated header", source);
  const size_t header = load_bytes(bytes.subspan(8), length_bytes);
  if (header > kMaxHeader || header > bytes.size() - begin) {
    fail("{}: npy: header length {}, but {} bytes follow", source, header, bytes.size() - begin);
  }
  NpyArray array;
  array.shape = HeaderReader(text.substr(begin, header), source).read();
  const auto data = bytes.subspan(begin + header);
  size_t size = sizeof(float);
  bool overflow = false;
  for (const int64_t dim : array.shape) overflow |= __builtin_mul_overflow(size, size_t(dim), &size);
  if (overflow || size != data.size()) {
    fail("{}: npy: shape ({}) needs {} bytes of data, found {}", source, fmt::join(array.shape, ", "),
         overflow ? "too many" : std::to_string(size), data.size());
  }
  array.values.resize(size / sizeof(float));
  if (size > 0) std::memcpy(array.values.data(), data.data(), size);
  return array;
}

NpyArray read_npy(const std::string& path) {
  const MappedFile file(path);
  return parse_npy(file.bytes(), path);
}

std::string npy_bytes(std::span<const int64_t> shape, std::span<const float> values) {
  size_t count = 1;
  for (const int64_t dim : shape) count *= size_t(dim);
  check(count == values.size(), "npy: the shape does not match the number of values");
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{}), }}",
                                   fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');  // the data begins 64-aligned
  header += '\n';
  std::string bytes(kMagic);
  bytes += {'\1', '\0', char(header.size() & 0xff), char(header.size() >> 8)};
  bytes += header;
  return bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

void write_npy(const std::string& path, std::span<const int64_t> shape, std::span<const float> values) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    const std::string bytes = npy_bytes(shape, values);
    file.write(bytes.data(), std::streamsize(bytes.size()));
    if (!file.flush()) fail("{}: cannot write: {}", temporary, std::strerror(errno));
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    fail("{}: cannot rename to {}: {}", temporary, path, std::strerror(errno));
  }
}

}  // namespace flashrt
