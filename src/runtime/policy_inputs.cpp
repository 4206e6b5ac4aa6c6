// Seeded random inputs.
#include "runtime/policy_inputs.h"

#include "base/philox.h"

namespace flashrt {

void fill_random_inputs(Runner& runner, const PolicyConfig& config, uint64_t seed) {
  int64_t views = 0, text = 0;
  for (const auto& [name, id] : runner.program().inputs) {
    const TensorInfo& info = runner.program().info(id);
    if (name == "image") views = info.shape.rows;
    const std::span<std::byte> bytes = runner.input(name);
    const uint64_t stream = seed * 16 + uint64_t(id);
    if (info.dtype == DType::f32) {
      philox_normal(stream, {reinterpret_cast<float*>(bytes.data()), size_t(info.shape.size())});
      continue;
    }
    for (size_t i = 0; i < size_t(info.shape.size()); ++i) {
      const uint32_t word = philox(stream, i).word[0];
      if (info.dtype == DType::u8) {
        bytes[i] = std::byte(word);
      } else {
        reinterpret_cast<int32_t*>(bytes.data())[i] = int32_t(word % uint64_t(config.vocab));
      }
    }
    if (name == "token_ids") text = info.shape.cols;
  }
  *reinterpret_cast<int32_t*>(runner.input("prefix_length").data()) =
      int32_t(views * config.vision.tokens() + text);
}

}  // namespace flashrt
