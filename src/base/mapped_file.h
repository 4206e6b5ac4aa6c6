// A file mapped read-only. Regular files only; the size is checked again after mapping.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace flashrt {

class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);  // throws Error(input) naming the path
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The whole file as a string; throws Error(input) when unreadable or larger than `limit` bytes.
std::string read_text_file(const std::string& path, size_t limit = size_t{256} << 20);

}  // namespace flashrt
