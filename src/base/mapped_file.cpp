// POSIX implementation of MappedFile.
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace flashrt {

namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

size_t regular_size(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) fail("{}: cannot stat: {}", path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) fail("{}: expected a regular file", path);
  return size_t(info.st_size);
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail("{}: cannot open: {}", path, std::strerror(errno));
  size_ = regular_size(file.fd, path);
  if (size_ == 0) return;
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (mapping == MAP_FAILED) fail("{}: cannot map {} bytes: {}", path, size_, std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapping);
  if (regular_size(file.fd, path) != size_) {
    munmap(mapping, size_);
    fail("{}: the file changed while it was opened", path);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_text_file(const std::string& path, size_t limit) {
  const MappedFile file(path);
  if (file.bytes().size() > limit) {
    fail("{}: {} bytes is larger than the limit of {}", path, file.bytes().size(), limit);
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace flashrt
