// config.json: an accepted configuration describes a network of finite, bounded size.
#include <cstdlib>

#include "base/error.h"
#include "io/policy_weights.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    const JsonDocument document({reinterpret_cast<const char*>(data), size}, "fuzz",
                                {.bytes = size_t{1} << 20});
    const PolicyConfig config = read_policy_config(document.root(), size % 2 == 0);
    for (const WeightSpec& weight : policy_weights(config)) {
      int64_t elements = 1;
      for (const int64_t dim : weight.shape) {
        if (dim < 1 || __builtin_mul_overflow(elements, dim, &elements)) std::abort();
      }
      const auto name = canonical_weight_name(lerobot_weight_name(weight.name), config.family);
      if (!name || name->canonical != weight.name) std::abort();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
