// Stretches of decoder layers that run as one persistent launch instead of five launches a layer: of many
// rows (kernels/decoder_stack_sm90.cu), or of one token (token_layers.h). The launches of the lines stay:
// they are the oracle, the profile and the fallback.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "cuda/device.h"

namespace flashrt::cuda {

// Lines [first, first + count) of a program, in one launch.
struct LayerStack {
  size_t first = 0, count = 0;
  Launch launch;
};

class LayerStacks {
 public:
  // Finds the stretches and prepares their launches; none on devices that cannot, or when `force` excludes
  // "decoder_stack=-persistent". `address` is the device address by tensor id. Enqueues small launches on
  // `stream` (the shifts of norms, folded through the matrices behind them) and waits for them.
  void build(const Program& program, const Device& device, std::span<void* const> address,
             const std::map<std::string, std::string>& force, cudaStream_t stream);

  // The stretch that begins with this line, or null.
  const LayerStack* at(size_t line) const;
  std::span<LayerStack> all() { return stacks_; }
  size_t device_bytes() const { return device_bytes_; }

 private:
  std::vector<LayerStack> stacks_;
  std::vector<Memory> memory_;
  size_t device_bytes_ = 0;
};

}  // namespace flashrt::cuda
