// safetensors readers: every rule of the format is checked before a tensor is handed out.
#include "io/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "io/json.h"

namespace flashrt {

namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr int64_t kMaxInteger = int64_t{1} << 53;  // what every JSON reader represents exactly
constexpr size_t kMaxTensors = 1'000'000, kMaxName = 1024, kMaxRank = 16;

struct StoredType {
  std::string_view text;
  uint64_t bits;
  std::optional<DType> dtype;  // empty: its size is known, its values cannot be read
};

constexpr StoredType kTypes[] = {
    {"BOOL", 8, DType::boolean},    {"U8", 8, DType::u8},           {"I8", 8, DType::i8},
    {"F8_E5M2", 8, DType::f8_e5m2}, {"F8_E4M3", 8, DType::f8_e4m3}, {"I16", 16, DType::i16},
    {"U16", 16, DType::u16},        {"F16", 16, DType::f16},        {"BF16", 16, DType::bf16},
    {"I32", 32, DType::i32},        {"U32", 32, DType::u32},        {"F32", 32, DType::f32},
    {"F64", 64, DType::f64},        {"I64", 64, DType::i64},        {"U64", 64, DType::u64},
    {"F8_E8M0", 8, std::nullopt},   {"F4", 4, std::nullopt},        {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},   {"C64", 64, std::nullopt},
};

const StoredType* find_type(std::string_view text) {
  for (const StoredType& type : kTypes) {
    if (type.text == text) return &type;
  }
  return nullptr;
}

struct Entry {
  TensorView tensor;
  std::string unreadable;  // the dtype's text when we cannot read it
  uint64_t begin = 0, end = 0;
};

std::pair<uint64_t, uint64_t> read_offsets(const JsonNode& node) {
  const auto offsets = node.elements();
  if (offsets.size() != 2) node.fail_expected("[begin, end]");
  const auto begin = uint64_t(offsets[0].integer(0, kMaxInteger));
  const auto end = uint64_t(offsets[1].integer(0, kMaxInteger));
  if (end < begin) node.fail_expected("begin ≤ end");
  return {begin, end};
}

// product(shape) · bits must be end − begin.
void check_size(const JsonNode& node, const Entry& entry, uint64_t bits) {
  uint64_t total = bits;
  bool overflow = false;
  for (const int64_t dim : entry.tensor.shape)
    overflow |= __builtin_mul_overflow(total, uint64_t(dim), &total);
  for (const int64_t dim : entry.tensor.shape) {
    if (dim == 0) total = 0, overflow = false;
  }
  if (overflow || total % 8 != 0 || total / 8 != entry.end - entry.begin) {
    fail("{}: tensor {}: data_offsets span {} bytes, but shape {} of {}-bit elements needs {}", node.source(),
         json_quote(entry.tensor.name), entry.end - entry.begin, shape_text(entry.tensor.shape), bits,
         overflow ? "more than 2^64 bits" : fmt::format("{} bits", total));
  }
}

Entry read_entry(std::string_view name, const JsonNode& node) {
  if (name.empty() || name.size() > kMaxName || name.find('\0') != name.npos) {
    fail("{}: tensor name of {} bytes: expected 1 to {} bytes without NUL", node.source(), name.size(),
         kMaxName);
  }
  for (const auto& [key, value] : node.members()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      value.fail_expected("only the fields dtype, shape and data_offsets");
    }
  }
  Entry entry;
  entry.tensor.name = name;
  const auto dims = node.at("shape").elements();
  if (dims.size() > kMaxRank) node.at("shape").fail_expected(fmt::format("at most {} dimensions", kMaxRank));
  for (const JsonNode& dim : dims) entry.tensor.shape.push_back(dim.integer(0, kMaxInteger));
  std::tie(entry.begin, entry.end) = read_offsets(node.at("data_offsets"));
  const std::string& dtype = node.at("dtype").text();
  const StoredType* type = find_type(dtype);
  if (type != nullptr) check_size(node, entry, type->bits);
  if (type != nullptr && type->dtype)
    entry.tensor.dtype = *type->dtype;
  else
    entry.unreadable = dtype.empty() ? "\"\"" : dtype;
  return entry;
}

void read_metadata(const JsonNode& node, TensorMetadata& metadata) {
  for (const auto& [key, value] : node.members()) metadata.emplace(key, value.text());
}

// Sorted by offset, the tensors must tile the data section exactly.
void check_tiling(const std::vector<Entry>& entries, uint64_t data_size, const std::string& path) {
  uint64_t expected = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != expected) {
      fail("{}: tensor {} begins at byte {} of the data: {} (expected {})", path,
           json_quote(entry.tensor.name), entry.begin,
           entry.begin < expected ? "it overlaps another tensor" : "there is a hole before it", expected);
    }
    expected = entry.end;
  }
  if (expected != data_size) {
    fail("{}: the tensors end at byte {} of the data, but the file holds {} bytes of data ({})", path,
         expected, data_size, data_size < expected ? "truncated" : "trailing bytes");
  }
}

uint64_t load_little_endian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | uint64_t(bytes[size_t(i)]);
  return value;
}

}  // namespace

int64_t element_count(const TensorView& tensor) {
  return int64_t(tensor.bytes.size() / size_of(tensor.dtype));
}

std::string shape_text(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(path) { parse(file_.bytes()); }

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string source)
    : path_(std::move(source)) {
  parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) fail("{}: {} bytes is too short for a safetensors file", path_, bytes.size());
  const uint64_t header_size = load_little_endian(bytes);
  if (header_size < 2 || header_size > kMaxHeader) {
    fail("{}: header length {}: expected 2 to {}", path_, header_size, kMaxHeader);
  }
  if (header_size > bytes.size() - 8) {
    fail("{}: header length {}, but only {} bytes follow (truncated)", path_, header_size, bytes.size() - 8);
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8, size_t(header_size));
  if (header[0] != '{') fail("{}: the header does not begin with '{{'", path_);
  const auto data = bytes.subspan(8 + size_t(header_size));
  const JsonDocument document(header, path_, {.bytes = kMaxHeader, .depth = 4});

  std::vector<Entry> entries;
  for (const auto& [name, node] : document.root().members()) {
    if (name == "__metadata__")
      read_metadata(node, metadata_);
    else
      entries.push_back(read_entry(name, node));
  }
  if (entries.size() > kMaxTensors) fail("{}: {} tensors, more than {}", path_, entries.size(), kMaxTensors);
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_tiling(entries, data.size(), path_);
  for (Entry& entry : entries) {
    if (!entry.unreadable.empty()) {
      unreadable_.emplace(std::move(entry.tensor.name), std::move(entry.unreadable));
      continue;
    }
    entry.tensor.bytes = data.subspan(size_t(entry.begin), size_t(entry.end - entry.begin));
    index_.emplace(entry.tensor.name, tensors_.size());
    tensors_.push_back(std::move(entry.tensor));
  }
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  if (const auto found = index_.find(std::string(name)); found != index_.end())
    return &tensors_[found->second];
  if (const auto found = unreadable_.find(std::string(name)); found != unreadable_.end()) {
    fail("{}: tensor {}: element type {} is not supported", path_, json_quote(name),
         json_quote(found->second));
  }
  return nullptr;
}

namespace {

// Shards are plain files of the index's folder. A link may leave the folder only for the blobs of the same
// hub cache entry (<entry>/snapshots/<revision>/shard → <entry>/blobs/<hash>).
std::string shard_path(const std::string& index_path, const JsonNode& node) {
  namespace fs = std::filesystem;
  const std::string& name = node.text();
  if (name.empty() || name[0] == '.' || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos ||
      name.find("..") != name.npos) {
    node.fail_expected("the name of a file in the same folder");
  }
  const fs::path folder = fs::path(index_path).parent_path(), path = folder / name;
  std::error_code error;
  if (!fs::exists(path, error))
    fail("{}: the shard {} is missing: {}", index_path, json_quote(name), path.string());
  const fs::path home = fs::weakly_canonical(folder.empty() ? fs::path(".") : folder, error);
  const fs::path target = fs::weakly_canonical(path, error).parent_path();
  if (error || (target != home && target != home.parent_path().parent_path() / "blobs")) {
    fail("{}: the shard {} is a link that leaves its folder: {}", index_path, json_quote(name),
         target.string());
  }
  return path.string();
}

}  // namespace

TensorStore::TensorStore(const std::string& path) : path_(path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    const std::string single = (fs::path(path) / "model.safetensors").string();
    const std::string index = single + ".index.json";
    path_ = fs::exists(single, error) ? single : index;
    if (!fs::exists(path_, error)) {
      fail("{}: holds neither model.safetensors nor model.safetensors.index.json", path);
    }
  }
  if (path_.ends_with(".json")) {
    open_index(path_);
    return;
  }
  shards_.push_back(std::make_unique<SafetensorsFile>(path_));
  tensors_ = shards_[0]->tensors();
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

void TensorStore::open_index(const std::string& index_path) {
  const JsonDocument document = JsonDocument::read(index_path, {.bytes = kMaxHeader, .depth = 16});
  std::unordered_map<std::string, size_t> opened;  // file name → place in shards_
  std::unordered_map<std::string, size_t> mapped;  // tensor → shard, as the index says
  for (const auto& [name, node] : document.root().at("weight_map").members()) {
    const auto [place, fresh] = opened.emplace(node.text(), shards_.size());
    if (fresh) shards_.push_back(std::make_unique<SafetensorsFile>(shard_path(index_path, node)));
    mapped.emplace(name, place->second);
  }
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    for (const TensorView& tensor : shards_[shard]->tensors()) {
      const auto [place, fresh] = shard_.emplace(tensor.name, shard);
      if (!fresh) {
        fail("{}: tensor {} stands in two shards, {} and {}", index_path, json_quote(tensor.name),
             shards_[place->second]->path(), shards_[shard]->path());
      }
      index_.emplace(tensor.name, tensors_.size());
      tensors_.push_back(tensor);
    }
  }
  std::vector<std::string> missing;
  for (const auto& [name, shard] : mapped) {
    const auto actual = shard_.find(name);
    if (actual != shard_.end() ? actual->second == shard : shards_[shard]->unreadable().contains(name))
      continue;
    missing.push_back(fmt::format("{} in {}", json_quote(name), shards_[shard]->path()));
  }
  std::sort(missing.begin(), missing.end());
  if (!missing.empty()) {
    fail("{}: {} tensors of the index are not in their shards: {}", index_path, missing.size(),
         fmt::join(missing, ", "));
  }
}

const TensorView* TensorStore::find(std::string_view name) const {
  if (const auto found = index_.find(std::string(name)); found != index_.end())
    return &tensors_[found->second];
  for (const auto& shard : shards_) shard->find(name);  // throws when it is there but unreadable
  return nullptr;
}

void TensorStore::replace(std::string_view name, std::vector<int64_t> shape, std::vector<std::byte> bytes) {
  TensorView& tensor = tensors_[index_.at(std::string(name))];
  check(bytes.size() == tensor.bytes.size(), "a replaced tensor keeps its size");
  tensor.shape = std::move(shape);
  tensor.bytes = replaced_.emplace_back(std::move(bytes));
}

std::map<std::string, std::string> TensorStore::unreadable() const {
  std::map<std::string, std::string> result;
  for (const auto& shard : shards_) result.insert(shard->unreadable().begin(), shard->unreadable().end());
  return result;
}

const std::string& TensorStore::file_of(const TensorView& tensor) const {
  const auto found = shard_.find(tensor.name);
  return shards_[found == shard_.end() ? 0 : found->second]->path();
}

}  // namespace flashrt
