// norm_stats.json: accepted statistics are finite, of equal length, and ordered.
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "io/norm_stats.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    const JsonDocument document({reinterpret_cast<const char*>(data), size}, "fuzz",
                                {.bytes = size_t{1} << 20});
    for (const NormMode mode : {NormMode::zscore, NormMode::quantile}) {
      const Normalizer n = read_openpi_statistics(document.root(), size % 2 ? "state" : "actions", mode);
      if (n.first.size() != n.second.size() || n.first.empty()) std::abort();
      std::vector<float> values(n.first.size(), 0.5f);
      n.normalize(values);
      n.unnormalize(values);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
