// Programs of one token whose layers and output matrix run as one persistent launch
// (kernels/token_stack_sm90.cu) instead of five launches a layer. The launches of the lines stay: they are
// the oracle, the profile and the fallback.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/token_stack.h"

namespace flashrt::cuda {

// The lines of one layer, as the fusion patterns leave them. Dense: norm, router and experts are null, and
// down adds; with experts: gate_up and down are null, and residual adds.
struct TokenLayerLines {
  const Line *qkv = nullptr, *attention = nullptr, *out = nullptr, *gate_up = nullptr, *down = nullptr;
  const Line *norm = nullptr, *router = nullptr, *experts = nullptr, *residual = nullptr;
};

// Lines [first, first + count) of a program: embedding (where nothing else reads it), layers, output matrix.
struct TokenLines {
  size_t first = 0, count = 0;
  const Line *embedding = nullptr, *head = nullptr;
  std::vector<TokenLayerLines> layers;
  TokenShape shape{};
};

// The first such stretch whose lines are all of the kinds that the launch computes; its sizes are
// plan_token_stack's to judge.
std::optional<TokenLines> find_token_layers(const Program& program);

// Its launch; nothing on devices that cannot, or when `force` excludes "token_stack=-persistent". `address`
// is the device address by tensor id; what the launch needs besides goes to `memory`.
struct TokenStackLaunch {
  size_t first = 0, count = 0;
  Launch launch;
  size_t bytes = 0;
};
std::optional<TokenStackLaunch> build_token_layers(const Program& program, const Device& device,
                                                   std::span<void* const> address,
                                                   const std::map<std::string, std::string>& force,
                                                   std::vector<Memory>& memory);

}  // namespace flashrt::cuda
