// Encoding while loading, remembered by name: every program of a model asks for the same matrices.
#include "runtime/weight_formats.h"

#include <map>
#include <mutex>

#include "base/error.h"
#include "runtime/text_generator.h"

namespace flashrt {

namespace {

struct Encoded {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<const quant::Packed>> by_name;
};

}  // namespace

Weight packed_weight(const std::string& name, std::shared_ptr<const quant::Packed> packed) {
  Weight weight{.name = name, .shape = {packed->rows, packed->cols}};
  weight.parts = {{.data = packed->codes,
                   .dtype = DType::u8,
                   .rows = packed->rows,
                   .stride = packed->code_stride,
                   .packed = std::move(packed)}};
  return weight;
}

WeightSource lm_weights(const LmCheckpoint& checkpoint, std::string_view format) {
  WeightSource stored = checkpoint_weights(checkpoint);
  if (format.empty()) return stored;
  return encoded_weights(std::move(stored), checkpoint.config, parse_weight_format(format));
}

quant::Format parse_weight_format(std::string_view text) {
  if (const auto format = quant::format_of(text)) return *format;
  fail("--weights: expected fp8, int8, int4 or nvfp4, found '{}'", text);
}

bool is_encoded(const LmConfig& config, std::string_view name, const Weight& weight) {
  const bool router = config.experts > 0 && name.ends_with(lm_expert_names(config).router + ".weight");
  const bool in_layer =
      name.find(".layers.") != name.npos || name.find("h.") == 0 || name.find(".h.") != name.npos;
  return in_layer && name.ends_with(".weight") && weight.shape.rows > 1 && !router;
}

WeightSource encoded_weights(WeightSource plain, const LmConfig& config, quant::Format format) {
  const auto encoded = std::make_shared<Encoded>();
  return [=, plain = std::move(plain)](const std::string& name) {
    const std::lock_guard lock(encoded->mutex);
    if (const auto found = encoded->by_name.find(name); found != encoded->by_name.end()) {
      return packed_weight(name, found->second);
    }
    Weight weight = plain(name);
    if (!is_encoded(config, name, weight)) return weight;
    if (weight.parts[0].packed != nullptr) {
      fail("--weights {}: {} is stored in {} already", quant::name_of(format), name,
           quant::name_of(weight.parts[0].packed->format));
    }
    auto packed = std::make_shared<const quant::Packed>(encode_weight(format, weight));
    encoded->by_name.emplace(name, packed);
    return packed_weight(name, std::move(packed));
  };
}

quant::Packed encode_weight(quant::Format format, const Weight& weight) {
  return quant::encode(
      format, weight.shape.rows, weight.shape.cols,
      [&](int64_t row, float* out) { read_weight_row(weight, row, out); }, weight.name);
}

}  // namespace flashrt
