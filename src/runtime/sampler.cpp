// The checks of sampling's options, and what the op reads of them.
#include "runtime/sampler.h"

#include <algorithm>
#include <numbers>

#include "base/error.h"

namespace flashrt {

namespace {

void require_range(const char* name, double value, double low, double high) {
  if (!(value >= low && value <= high)) fail("{}: expected {} to {}, found {}", name, low, high, value);
}

}  // namespace

Sampler::Sampler(SamplerOptions options, int64_t vocab) : options_(std::move(options)) {
  require_range("temperature", options_.temperature, 0, 1e3);
  require_range("top-k", double(options_.top_k), 0, 1e9);
  require_range("top-p", options_.top_p, 0, 1);
  require_range("min-p", options_.min_p, 0, 1);
  require_range("repetition penalty", options_.repetition_penalty, 1e-3, 1e3);
  require_range("presence penalty", options_.presence_penalty, -1e3, 1e3);
  require_range("frequency penalty", options_.frequency_penalty, -1e3, 1e3);
  for (const auto& [id, value] : options_.bias) {
    if (id < 0 || id >= vocab) fail("logit bias: token {} is outside the vocabulary of {}", id, vocab);
    require_range("logit bias", value, -1e6, 1e6);
  }
}

SamplingSettings Sampler::settings() const {
  const auto& o = options_;
  const double octaves = std::min(std::numbers::log2e * 0x1p24 / o.temperature, 1e30);  // of a logit
  return {.scale = o.temperature > 0 ? float(octaves) : 0,
          .top_k = int32_t(o.top_k),
          .top_p = float(o.top_p),
          .min_p = float(o.min_p),
          .above_zero = float(o.repetition_penalty),
          .below_zero = float(1 / o.repetition_penalty),
          .presence = float(o.presence_penalty),
          .frequency = float(o.frequency_penalty),
          .seed = {uint32_t(o.seed), uint32_t(o.seed >> 32)}};
}

void Sampler::fill_bias(std::span<float> bias) const {
  std::ranges::fill(bias, 0.f);
  for (const auto& [id, value] : options_.bias) bias[size_t(id)] = value;
}

void Sampler::fill_seen(std::span<const int32_t> prompt, std::span<int32_t> seen) {
  std::ranges::fill(seen, 0);
  for (int32_t id : prompt) seen[size_t(id)] = 1;
}

}  // namespace flashrt
