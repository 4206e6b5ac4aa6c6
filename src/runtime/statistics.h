// Percentiles of measured times.
#pragma once

#include <span>

namespace flashrt {

struct Percentiles {
  double min = 0, p50 = 0, p95 = 0, p99 = 0, max = 0, mean = 0;
};

// Nearest-rank percentiles; `samples` is sorted in place and must not be empty.
Percentiles percentiles(std::span<double> samples);

}  // namespace flashrt
