// Normalizer and its two file formats.
#include "io/norm_stats.h"

#include <cmath>

#include "base/error.h"

namespace flashrt {

namespace {

constexpr size_t kMaxDims = 1024;
constexpr double kHuge = 1e300;

struct StatisticNames {
  std::string_view first, second;
};

StatisticNames statistic_names(NormMode mode) {
  switch (mode) {
    case NormMode::zscore: return {"mean", "std"};
    case NormMode::quantile: return {"q01", "q99"};
    case NormMode::quantile10: return {"q10", "q90"};
    case NormMode::minmax: return {"min", "max"};
    case NormMode::identity: break;
  }
  return {};
}

bool is_zscore(const Normalizer& n) { return n.mode == NormMode::zscore; }

// high − low, kept from 0 as the dialect does. Real is the type the trainer computes in.
template <class Real>
Real spread(const Normalizer& n, Real low, Real high) {
  const Real width = high - low;
  if (n.dialect == NormDialect::openpi) return width + Real(n.epsilon);
  return width == 0 ? Real(n.epsilon) : width;
}

template <class Real>
void apply(const Normalizer& n, std::span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Real x = values[i], a = Real(n.first[i]), b = Real(n.second[i]);
    values[i] = float(is_zscore(n) ? (x - a) / (b + Real(n.epsilon)) : 2 * (x - a) / spread(n, a, b) - 1);
  }
}

template <class Real>
void apply_inverse(const Normalizer& n, std::span<float> values) {
  const Real epsilon = n.dialect == NormDialect::openpi ? Real(n.epsilon) : Real(0);
  for (size_t i = 0; i < values.size(); ++i) {
    const Real y = values[i], a = Real(n.first[i]), b = Real(n.second[i]);
    const Real unit =
        (values[i] + 1) / 2;  // in f32 in both: the network's actions meet f64 statistics after it
    values[i] = float(is_zscore(n) ? y * (b + epsilon) + a : unit * spread(n, a, b) + a);
  }
}

std::vector<double> read_numbers(const JsonNode& node) {
  std::vector<double> values;
  for (const JsonNode& element : node.elements()) values.push_back(element.number(-kHuge, kHuge));
  return values;
}

std::vector<double> read_numbers(const SafetensorsFile& file, const TensorView& tensor) {
  if (!is_floating(tensor.dtype)) {
    fail("{}: tensor {}: expected floating-point statistics, found {}", file.path(), json_quote(tensor.name),
         name_of(tensor.dtype));
  }
  std::vector<double> values(size_t(element_count(tensor)));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = load_float(tensor.bytes.data(), tensor.dtype, i);
  }
  return values;
}

}  // namespace

std::string_view name_of(NormMode mode) {
  switch (mode) {
    case NormMode::identity: return "identity";
    case NormMode::zscore: return "z-score";
    case NormMode::quantile: return "quantile";
    case NormMode::quantile10: return "quantile10";
    case NormMode::minmax: return "min-max";
  }
  return "?";
}

std::string_view name_of(NormDialect dialect) {
  return dialect == NormDialect::openpi ? "openpi" : "lerobot";
}

void Normalizer::normalize(std::span<float> state) const {
  if (mode == NormMode::identity) return;
  if (state.size() > first.size()) {
    fail("the state has {} values, but the checkpoint's statistics have {}", state.size(), first.size());
  }
  if (dialect == NormDialect::openpi)
    apply<double>(*this, state);
  else
    apply<float>(*this, state);
}

void Normalizer::unnormalize(std::span<float> action) const {
  if (mode == NormMode::identity) return;
  // openpi pads with mean 0, std 1, or leaves dimensions without quantiles alone: the same but for its 1 + ε.
  if (action.size() > first.size() && dialect == NormDialect::lerobot) {
    fail("the action has {} values, but the checkpoint's statistics have {}", action.size(), first.size());
  }
  const size_t known = std::min(action.size(), first.size());
  if (dialect == NormDialect::openpi) {
    apply_inverse<double>(*this, action.first(known));
    if (is_zscore(*this)) {
      for (float& value : action.subspan(known)) value = float(value * (1 + epsilon));
    }
  } else {
    apply_inverse<float>(*this, action);
  }
}

void check_statistics(const Normalizer& n, const std::string& source) {
  if (n.mode == NormMode::identity) return;
  const auto [first, second] = statistic_names(n.mode);
  if (n.first.size() != n.second.size() || n.first.empty() || n.first.size() > kMaxDims) {
    fail("{}: {} has {} values and {} has {}: expected equal lengths from 1 to {}", source, first,
         n.first.size(), second, n.second.size(), kMaxDims);
  }
  for (size_t i = 0; i < n.first.size(); ++i) {
    if (!std::isfinite(n.first[i]) || !std::isfinite(n.second[i])) {
      fail("{}: {}[{}] = {}, {}[{}] = {}: expected finite values", source, first, i, n.first[i], second, i,
           n.second[i]);
    }
    if (is_zscore(n) ? n.second[i] < 0 : n.second[i] < n.first[i]) {
      fail("{}: {}[{}] = {}, {}[{}] = {}: expected {}", source, first, i, n.first[i], second, i, n.second[i],
           is_zscore(n) ? "std ≥ 0" : "low ≤ high");
    }
  }
}

Normalizer read_openpi_statistics(const JsonNode& document, std::string_view key, NormMode mode) {
  Normalizer result{mode, NormDialect::openpi, 1e-6, {}, {}};
  const JsonNode node = document.at("norm_stats").at(key);
  const auto [first, second] = statistic_names(mode);
  result.first = read_numbers(node.at(first));
  result.second = read_numbers(node.at(second));
  check_statistics(result, fmt::format("{}: {}", node.source(), node.pointer()));
  return result;
}

std::optional<Normalizer> read_tensor_statistics(const SafetensorsFile& file, const std::string& prefix,
                                                 NormMode mode, double epsilon) {
  const auto [first, second] = statistic_names(mode);
  const TensorView* a = file.find(prefix + std::string(first));
  const TensorView* b = file.find(prefix + std::string(second));
  if (a == nullptr && b == nullptr) {
    bool any = false;
    for (const TensorView& tensor : file.tensors()) any |= tensor.name.starts_with(prefix);
    if (!any) return std::nullopt;
  }
  if (a == nullptr || b == nullptr) {
    fail("{}: {} normalisation needs the statistics {}{} and {}{}; {} is missing", file.path(), name_of(mode),
         prefix, first, prefix, second, a == nullptr ? first : second);
  }
  Normalizer result{mode, NormDialect::lerobot, epsilon, read_numbers(file, *a), read_numbers(file, *b)};
  check_statistics(result, fmt::format("{}: {}", file.path(), prefix));
  return result;
}

}  // namespace flashrt
