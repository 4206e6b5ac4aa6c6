// Normalisation of robot states and actions: statistics of a dataset, and the maths of the code that trained.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"

namespace flashrt {

// How x becomes a model value y, per dimension:
//   zscore           y = (x − mean) / (std + ε)
//   quantile, minmax y = 2 (x − low) / (high − low) − 1     low, high = q01, q99 | q10, q90 | min, max
enum class NormMode { identity, zscore, quantile, quantile10, minmax };

// Where ε goes. openpi: 1e-6 added to std and to high − low, in both directions, in double.
// lerobot: added to std forward only, in place of high − low when that is 0, in float; ε stands in the file
// (1e-8).
enum class NormDialect { openpi, lerobot };

std::string_view name_of(NormMode mode);
std::string_view name_of(NormDialect dialect);

struct Normalizer {
  NormMode mode = NormMode::identity;
  NormDialect dialect = NormDialect::openpi;
  double epsilon = 1e-6;
  std::vector<double> first;   // mean | low
  std::vector<double> second;  // std | high

  // In place. A robot may have fewer dimensions than the statistics; with more, a state is an error, and an
  // action's extra dimensions pass through in openpi's dialect.
  void normalize(std::span<float> state) const;
  void unnormalize(std::span<float> action) const;
};

// Finite values, equal lengths of 1 to 1024, std ≥ 0, high ≥ low; `source` names the file and the field.
void check_statistics(const Normalizer& normalizer, const std::string& source);

// openpi's assets/<id>/norm_stats.json; `key` is "state" or "actions".
Normalizer read_openpi_statistics(const JsonNode& document, std::string_view key, NormMode mode);

// Statistics `<prefix>mean`, … of tensors; empty when none of the key's statistics are there.
std::optional<Normalizer> read_tensor_statistics(const SafetensorsFile& file, const std::string& prefix,
                                                 NormMode mode, double epsilon);

}  // namespace flashrt
