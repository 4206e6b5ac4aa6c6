// How well a language model predicts a text.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "models/language_model.h"
#include "runtime/backend.h"

namespace flashrt {

struct PerplexityOptions {
  int64_t context = 0;  // tokens of a window, at least 2
  int64_t stride = 0;   // tokens between the beginnings of two windows, 1 to context
};

struct Perplexity {
  double nll = 0;      // sum of −log p over the scored tokens, nats
  int64_t scored = 0;  // tokens with one before them in their window, each once
  int64_t windows = 0;
  double value() const;  // exp(nll / scored)
};

// Sliding windows: each scores the tokens that the windows before it did not, given all that it holds before
// them. `progress` is told after every window.
Perplexity measure_perplexity(const LmConfig& config, const WeightSource& weights,
                              std::shared_ptr<Backend> backend, std::span<const int32_t> ids,
                              const PerplexityOptions& options, const RunnerOptions& runner_options = {},
                              const std::function<void(const Perplexity&)>& progress = {});

}  // namespace flashrt
