// Reads recorded language model calls, with every shape and value checked.
#include "io/lm_case.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/safetensors.h"

namespace flashrt {

namespace {

template <class T>
std::vector<T> values_of(const SafetensorsFile& file, const char* name, DType dtype, size_t rank,
                         std::vector<int64_t>* shape = nullptr) {
  const TensorView* found = file.find(name);
  if (found == nullptr) fail("{}: the tensor {} is missing", file.path(), name);
  if (found->dtype != dtype || found->shape.size() != rank || element_count(*found) == 0) {
    fail("{}: {}: expected {} of rank {} with values, found {} {}", file.path(), name, name_of(dtype), rank,
         name_of(found->dtype), shape_text(found->shape));
  }
  if (shape != nullptr) *shape = found->shape;
  std::vector<T> values(size_t(element_count(*found)));
  std::memcpy(values.data(), found->bytes.data(), found->bytes.size());
  return values;
}

}  // namespace

std::string case_kind(const std::string& path) {
  const SafetensorsFile file(path);
  const auto kind = file.metadata().find("kind");
  if (kind == file.metadata().end() || (kind->second != "policy" && kind->second != "lm")) {
    fail("{}: metadata kind: expected policy or lm, found {}", path,
         kind == file.metadata().end() ? "none" : kind->second);
  }
  return kind->second;
}

LmCase read_lm_case(const std::string& path) {
  if (case_kind(path) != "lm") fail("{}: metadata kind: expected lm, found policy", path);
  const SafetensorsFile file(path);
  if (const auto format = file.metadata().find("format");
      format == file.metadata().end() || format->second != "flashrt-case-1") {
    fail("{}: metadata format: expected flashrt-case-1, found {}", path,
         format == file.metadata().end() ? "none" : format->second);
  }
  LmCase result;
  std::vector<int64_t> shape;
  result.token_ids = values_of<int32_t>(file, "in.token_ids", DType::i32, 1);
  result.logits = values_of<float>(file, "out.logits", DType::f32, 2, &shape);
  result.greedy = values_of<int32_t>(file, "out.greedy", DType::i32, 1);
  if (shape[0] != int64_t(result.token_ids.size())) {
    fail("{}: out.logits: expected {} rows, one per token, found {}", path, result.token_ids.size(),
         shape[0]);
  }
  result.vocab = shape[1];
  for (const float value : result.logits) {
    if (!std::isfinite(value)) fail("{}: out.logits: found {}", path, value);
  }
  for (const auto* ids : {&result.token_ids, &result.greedy}) {
    for (const int32_t id : *ids) {
      if (id < 0 || id >= result.vocab)
        fail("{}: token {} is outside the vocabulary of {}", path, id, result.vocab);
    }
  }
  return result;
}

}  // namespace flashrt
