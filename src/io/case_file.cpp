// Reads and writes recorded policy calls, with every shape and value checked.
#include "io/case_file.h"

#include <cmath>
#include <cstring>
#include <set>

#include "base/error.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace flashrt {

namespace {

constexpr int64_t kMaxSide = 8192;
constexpr size_t kMaxImages = 16, kMaxTokens = 65536;

class CaseReader {
 public:
  explicit CaseReader(const std::string& path) : file_(path) {
    require_metadata("format", "flashrt-case-1");
    require_metadata("kind", "policy");
  }

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  const TensorView& tensor(const std::string& name, DType dtype, size_t rank) {
    const TensorView* found = file_.find(name);
    if (found == nullptr) fail("{}: the tensor {} is missing", file_.path(), name);
    if (found->dtype != dtype || found->shape.size() != rank) {
      fail("{}: {}: expected {} of rank {}, found {} {}", file_.path(), name, name_of(dtype), rank,
           name_of(found->dtype), shape_text(found->shape));
    }
    used_.insert(name);
    return *found;
  }

  std::vector<float> floats(const TensorView& tensor) const {
    std::vector<float> values(size_t(element_count(tensor)));
    if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i]))
        fail("{}: {}: element {} is {}", file_.path(), tensor.name, i, values[i]);
    }
    return values;
  }

  std::vector<int32_t> integers(const std::string& name, int32_t high, size_t max_count) {
    const TensorView& found = tensor(name, DType::i32, 1);
    std::vector<int32_t> values(size_t(element_count(found)));
    if (values.size() > max_count) {
      fail("{}: {}: {} values, more than {}", file_.path(), name, values.size(), max_count);
    }
    if (!values.empty()) std::memcpy(values.data(), found.bytes.data(), found.bytes.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] < 0 || values[i] > high) {
        fail("{}: {}: element {} is {}, expected 0 to {}", file_.path(), name, i, values[i], high);
      }
    }
    return values;
  }

  void require_shape(const TensorView& tensor, std::span<const int64_t> shape) const {
    if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
      fail("{}: {}: expected shape {}, found {}", file_.path(), tensor.name, shape_text(shape),
           shape_text(tensor.shape));
    }
  }

  void finish(PolicyCase& result) const {
    for (const TensorView& tensor : file_.tensors()) {
      if (!used_.contains(tensor.name))
        fail("{}: unexpected tensor {}", file_.path(), json_quote(tensor.name));
    }
    for (const auto& [key, value] : file_.metadata()) {
      if (key != "format" && key != "kind") result.notes.emplace(key, value);
    }
  }

  const std::string& path() const { return file_.path(); }

 private:
  void require_metadata(const std::string& key, const char* expected) const {
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end() || found->second != expected) {
      fail("{}: metadata {}: expected {}, found {}", file_.path(), key, expected,
           found == file_.metadata().end() ? "none" : json_quote(found->second));
    }
  }

  SafetensorsFile file_;
  std::set<std::string> used_;
};

CaseImage read_image(CaseReader& reader, const std::string& name) {
  const TensorView& tensor = reader.tensor(name, DType::f32, 3);
  CaseImage image{tensor.shape[1], tensor.shape[2], reader.floats(tensor)};
  if (tensor.shape[0] != 3 || image.height < 1 || image.width < 1 || image.height > kMaxSide ||
      image.width > kMaxSide) {
    fail("{}: {}: expected [3, height, width] with sides from 1 to {}, found {}", reader.path(), name,
         kMaxSide, shape_text(tensor.shape));
  }
  for (const float value : image.values) {
    if (std::fabs(value) > 1.0001f) fail("{}: {}: {} is outside [-1, 1]", reader.path(), name, value);
  }
  return image;
}

}  // namespace

PolicyCase read_policy_case(const std::string& path) {
  CaseReader reader(path);
  PolicyCase result;
  while (reader.has(fmt::format("in.image.{}", result.images.size()))) {
    if (result.images.size() == kMaxImages) fail("{}: more than {} images", path, kMaxImages);
    result.images.push_back(read_image(reader, fmt::format("in.image.{}", result.images.size())));
  }
  result.image_mask = reader.integers("in.image_mask", 1, kMaxImages);
  if (result.image_mask.size() != result.images.size()) {
    fail("{}: in.image_mask has {} values for {} images", path, result.image_mask.size(),
         result.images.size());
  }
  result.token_ids = reader.integers("in.token_ids", 1'000'000, kMaxTokens);
  result.token_mask = reader.integers("in.token_mask", 1, kMaxTokens);
  if (result.token_mask.size() != result.token_ids.size()) {
    fail("{}: in.token_mask has {} values for {} tokens", path, result.token_mask.size(),
         result.token_ids.size());
  }
  if (reader.has("in.state")) result.state = reader.floats(reader.tensor("in.state", DType::f32, 1));
  const TensorView& noise = reader.tensor("in.noise", DType::f32, 2);
  result.horizon = noise.shape[0];
  result.action_dim = noise.shape[1];
  if (result.horizon < 1 || result.action_dim < 1) {
    fail("{}: in.noise: expected [horizon, action] of at least [1, 1], found {}", path,
         shape_text(noise.shape));
  }
  result.noise = reader.floats(noise);
  const TensorView& actions = reader.tensor("out.actions", DType::f32, 2);
  reader.require_shape(actions, noise.shape);
  result.actions = reader.floats(actions);
  reader.finish(result);
  return result;
}

void write_policy_case(const std::string& path, const PolicyCase& c) {
  std::vector<TensorView> tensors;
  const auto add = [&](std::string name, DType dtype, std::vector<int64_t> shape, const auto& values) {
    tensors.push_back({std::move(name), dtype, std::move(shape), std::as_bytes(std::span(values))});
  };
  for (size_t i = 0; i < c.images.size(); ++i) {
    const CaseImage& image = c.images[i];
    add(fmt::format("in.image.{}", i), DType::f32, {3, image.height, image.width}, image.values);
  }
  add("in.image_mask", DType::i32, {int64_t(c.image_mask.size())}, c.image_mask);
  add("in.token_ids", DType::i32, {int64_t(c.token_ids.size())}, c.token_ids);
  add("in.token_mask", DType::i32, {int64_t(c.token_mask.size())}, c.token_mask);
  if (!c.state.empty()) add("in.state", DType::f32, {int64_t(c.state.size())}, c.state);
  add("in.noise", DType::f32, {c.horizon, c.action_dim}, c.noise);
  add("out.actions", DType::f32, {c.horizon, c.action_dim}, c.actions);
  TensorMetadata metadata = c.notes;
  metadata["format"] = "flashrt-case-1";
  metadata["kind"] = "policy";
  write_safetensors(path, tensors, metadata);
}

}  // namespace flashrt
