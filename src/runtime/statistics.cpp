// Nearest-rank percentiles.
#include "runtime/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace flashrt {

Percentiles percentiles(std::span<double> samples) {
  std::ranges::sort(samples);
  const auto rank = [&](double q) {
    const auto index = size_t(std::ceil(q * double(samples.size())));
    return samples[std::min(samples.size() - 1, index > 0 ? index - 1 : 0)];
  };
  return {.min = samples.front(),
          .p50 = rank(0.50),
          .p95 = rank(0.95),
          .p99 = rank(0.99),
          .max = samples.back(),
          .mean = std::accumulate(samples.begin(), samples.end(), 0.0) / double(samples.size())};
}

}  // namespace flashrt
