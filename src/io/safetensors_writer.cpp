// SafetensorsWriter: the header from the specs, the data streamed, the file renamed into place at the end.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace flashrt {

namespace {

std::string_view stored_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "F32";
    case DType::bf16: return "BF16";
    case DType::f16: return "F16";
    case DType::i32: return "I32";
    case DType::i64: return "I64";
    case DType::u8: return "U8";
    case DType::f64: return "F64";
    case DType::i8: return "I8";
    case DType::u32: return "U32";
    case DType::boolean: return "BOOL";
    case DType::i16: return "I16";
    case DType::u16: return "U16";
    case DType::u64: return "U64";
    case DType::f8_e4m3: return "F8_E4M3";
    case DType::f8_e5m2: return "F8_E5M2";
  }
  return "";
}

size_t byte_size(const TensorSpec& spec) {
  size_t size = size_of(spec.dtype);
  for (const int64_t dim : spec.shape) {
    if (dim < 0 || __builtin_mul_overflow(size, size_t(dim), &size)) {
      fail("tensor {}: shape {} cannot be written", json_quote(spec.name), shape_text(spec.shape));
    }
  }
  return size;
}

std::string header_text(const std::vector<TensorSpec>& specs, const TensorMetadata& metadata) {
  std::string header = "{";
  const auto separate = [&] { header += header.size() > 1 ? "," : ""; };
  if (!metadata.empty()) {
    std::string pairs;
    for (const auto& [key, value] : metadata) {
      pairs += fmt::format("{}{}:{}", pairs.empty() ? "" : ",", json_quote(key), json_quote(value));
    }
    header += fmt::format("\"__metadata__\":{{{}}}", pairs);
  }
  size_t offset = 0;
  std::set<std::string_view> names;
  for (const TensorSpec& spec : specs) {
    if (!names.insert(spec.name).second) fail("tensor {} is written twice", json_quote(spec.name));
    separate();
    const size_t end = offset + byte_size(spec);
    header +=
        fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", json_quote(spec.name),
                    stored_name(spec.dtype), fmt::join(spec.shape, ","), offset, end);
    offset = end;
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');  // the data begins 8-aligned in the file
  return header;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, std::vector<TensorSpec> specs,
                                     const TensorMetadata& metadata)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp{}", path_, getpid())), specs_(std::move(specs)) {
  const std::string header = header_text(specs_, metadata);
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("{}: cannot create: {}", temporary_, std::strerror(errno));
  unsigned char size[8];
  for (int i = 0; i < 8; ++i) size[i] = static_cast<unsigned char>(uint64_t(header.size()) >> (8 * i));
  try {
    write(size, 8);
    write(header.data(), header.size());
  } catch (...) {
    close(fd_);
    unlink(temporary_.c_str());
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

void SafetensorsWriter::write(const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t done = ::write(fd_, at, std::min(size, size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("{}: cannot write: {}", temporary_, std::strerror(errno));
    at += done;
    size -= size_t(done);
  }
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  check(next_ < specs_.size(), "more tensors appended than declared");
  const TensorSpec& spec = specs_[next_++];
  if (bytes.size() != byte_size(spec)) {
    fail("{}: tensor {}: {} bytes given, shape {} of {} needs {}", path_, json_quote(spec.name), bytes.size(),
         shape_text(spec.shape), name_of(spec.dtype), byte_size(spec));
  }
  write(bytes.data(), bytes.size());
}

void SafetensorsWriter::finish() {
  check(next_ == specs_.size(), "fewer tensors appended than declared");
  if (fsync(fd_) != 0) fail("{}: cannot write: {}", temporary_, std::strerror(errno));
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("{}: cannot rename to {}: {}", temporary_, path_, std::strerror(errno));
  }
  close(fd_);
  fd_ = -1;
}

void write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                       const TensorMetadata& metadata) {
  std::vector<TensorSpec> specs;
  for (const TensorView& tensor : tensors) specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(path, std::move(specs), metadata);
  for (const TensorView& tensor : tensors) writer.append(tensor.bytes);
  writer.finish();
}

}  // namespace flashrt
