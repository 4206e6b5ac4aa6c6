// Sampling on the host, in double where probabilities add up.
#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/philox.h"

namespace flashrt {

namespace {

void require_range(const char* name, double value, double low, double high) {
  if (!(value >= low && value <= high)) fail("{}: expected {} to {}, found {}", name, low, high, value);
}

}  // namespace

Sampler::Sampler(SamplerOptions options, int64_t vocab)
    : options_(std::move(options)), seen_(size_t(vocab), false), count_(size_t(vocab), 0) {
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

void Sampler::see(std::span<const int32_t> prompt) {
  for (int32_t id : prompt) seen_[size_t(id)] = true;
}

void Sampler::adjust(std::span<const float> logits) {
  const auto& o = options_;
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    float value = logits[i];
    if (seen_[i] && o.repetition_penalty != 1) {
      value = float(value > 0 ? value / o.repetition_penalty : value * o.repetition_penalty);
    }
    if (count_[i] > 0) value -= float(o.presence_penalty + o.frequency_penalty * count_[i]);
    candidates_[i] = {value, int32_t(i)};
  }
  for (const auto& [id, value] : o.bias) candidates_[size_t(id)].logit += value;
}

int32_t Sampler::draw() {
  const auto& o = options_;
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  if (o.temperature == 0) return std::ranges::min_element(candidates_, likelier)->id;
  if (o.top_k > 0 && o.top_k < int64_t(candidates_.size())) {
    const auto end = candidates_.begin() + o.top_k;
    std::partial_sort(candidates_.begin(), end, candidates_.end(), likelier);
    candidates_.erase(end, candidates_.end());
  } else if (o.top_p < 1) {
    std::ranges::sort(candidates_, likelier);
  }
  const double top = std::ranges::min_element(candidates_, likelier)->logit;
  double total = 0;
  weights_.clear();
  for (const Candidate& c : candidates_) {
    total += weights_.emplace_back(std::exp((double(c.logit) - top) / o.temperature));
  }
  size_t kept = weights_.size();
  if (o.top_p < 1) {
    double sum = 0;
    for (kept = 0; kept < weights_.size() && (kept == 0 || sum < o.top_p * total); ++kept)
      sum += weights_[kept];
  }
  total = 0;
  for (size_t i = 0; i < kept; ++i) total += weights_[i] = weights_[i] >= o.min_p ? weights_[i] : 0;
  const PhiloxWords words = philox(o.seed, drawn_++);
  const double uniform = (double(words.word[0]) + double(words.word[1] >> 11) * 0x1p-21) * 0x1p-32;
  double left = uniform * total;
  size_t last = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (weights_[i] == 0) continue;
    last = i;
    if (left < weights_[i]) break;
    left -= weights_[i];
  }
  return candidates_[last].id;
}

int32_t Sampler::pick(std::span<const float> logits) {
  check(logits.size() == seen_.size(), "sampler: one logit per token");
  float top = -INFINITY;
  for (float value : logits) {
    if (std::isnan(value) || value == INFINITY) fail_device("the model's logits are not finite");
    top = std::max(top, value);
  }
  adjust(logits);
  const int32_t id = draw();
  double sum = 0;
  for (float value : logits) sum += std::exp(double(value) - top);
  log_probability_ = double(logits[size_t(id)]) - top - std::log(sum);
  seen_[size_t(id)] = true;
  ++count_[size_t(id)];
  return id;
}

}  // namespace flashrt
