// Measured choices: rows of tune/<device>.tsv, embedded in the build.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace flashrt::cuda {

// One row: which implementation's tactic was fastest for a problem. `shape` and `tactic` mean what the op and
// the implementation say; columns are separated by tabs, numbers by commas.
struct TunedRow {
  std::string_view op, implementation, variant;
  std::array<int64_t, 4> shape{};
  std::array<int, 8> tactic{};

  bool operator==(const TunedRow&) const = default;
};

// Of the device's rows for this op, implementation and variant that agree in shape[1..], the one whose
// shape[0] (rows of activations) is nearest, within a sixteenth; null when there is none. `device` is the
// name the driver gives, as "NVIDIA H200".
const TunedRow* find_tuned(std::string_view device, std::string_view op, std::string_view implementation,
                           std::string_view variant, std::span<const int64_t> shape);

// Rows under trial: found before the table's for exactly their problem, by programs built from now on. For
// `tune`, which times a program with one choice after another; not thread-safe.
std::vector<TunedRow>& trial_rows();

// All rows that a build embeds for the device.
std::span<const TunedRow> tuned_rows(std::string_view device);

}  // namespace flashrt::cuda
