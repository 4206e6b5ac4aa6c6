// safetensors files: mapped readers of one file or an index of shards, and an atomic writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/mapped_file.h"

namespace flashrt {

// The format promises no alignment of `bytes`: copy, or load with memcpy.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

int64_t element_count(const TensorView& tensor);
std::string shape_text(std::span<const int64_t> shape);  // "[2, 3]"

using TensorMetadata = std::map<std::string, std::string>;

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);                      // maps the file
  SafetensorsFile(std::span<const std::byte> bytes, std::string source);  // bytes of the caller

  const TensorView* find(std::string_view name) const;  // nullptr when absent; throws when unreadable
  const std::vector<TensorView>& tensors() const { return tensors_; }  // by offset
  // Name → stored type of the tensors whose elements we cannot read: no error until one is asked for.
  const std::map<std::string, std::string>& unreadable() const { return unreadable_; }
  const TensorMetadata& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }

 private:
  void parse(std::span<const std::byte> bytes);

  std::string path_;
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> unreadable_;
  TensorMetadata metadata_;
  std::unordered_map<std::string, size_t> index_;
};

// All tensors of a model: `path` is a .safetensors file, an index (*.json), or a directory that holds
// model.safetensors or model.safetensors.index.json.
class TensorStore {
 public:
  explicit TensorStore(const std::string& path);

  const TensorView* find(std::string_view name) const;  // as SafetensorsFile
  const std::vector<TensorView>& tensors() const { return tensors_; }
  std::map<std::string, std::string> unreadable() const;
  // Another form of a tensor that is there, of the same type; the store keeps the bytes.
  void replace(std::string_view name, std::vector<int64_t> shape, std::vector<std::byte> bytes);
  const std::string& path() const { return path_; }
  const std::string& file_of(const TensorView& tensor) const;  // the shard it came from, for messages

 private:
  void open_index(const std::string& index_path);

  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_, shard_;  // name → place in tensors_, in shards_
  std::vector<std::vector<std::byte>> replaced_;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

// Writes tensors one after the other in the order of the specs: a temporary file beside `path`, renamed by
// finish(); without it nothing is left behind.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::string path, std::vector<TensorSpec> specs, const TensorMetadata& metadata = {});
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();

  void append(std::span<const std::byte> bytes);  // the whole next tensor
  void finish();

 private:
  void write(const void* data, size_t size);

  std::string path_, temporary_;
  std::vector<TensorSpec> specs_;
  size_t next_ = 0;
  int fd_ = -1;
};

void write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                       const TensorMetadata& metadata = {});

}  // namespace flashrt
