// config.json and generation_config.json of language models: an accepted configuration has tensors of finite,
// bounded size, each named once.
#include <cstdlib>
#include <set>

#include "base/error.h"
#include "io/lm_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    const JsonDocument document({reinterpret_cast<const char*>(data), size}, "fuzz",
                                {.bytes = size_t{1} << 20});
    read_lm_generation(document.root(), 1000);
    const LmConfig config = read_lm_config(document.root());
    if (config.head_dim < 1 || config.heads % config.kv_heads != 0) std::abort();
    if (config.window.size() != size_t(config.layers)) std::abort();
    for (const int32_t id : config.end_tokens) {
      if (id < 0 || id >= config.vocab) std::abort();
    }
    if (config.layers * (config.experts + 1) > 4096) return 0;  // the names below take their time
    std::set<std::string> names;
    for (const LmWeightSpec& weight : lm_weight_specs(config)) {
      int64_t elements = 1;
      for (const int64_t dim : weight.shape) {
        if (dim < 1 || __builtin_mul_overflow(elements, dim, &elements)) std::abort();
      }
      if (!names.insert(weight.name).second) std::abort();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
