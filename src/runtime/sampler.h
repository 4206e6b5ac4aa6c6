// How the next token is drawn: the options, checked, as the operands of the op `sample`.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/sampling.h"

namespace flashrt {

struct SamplerOptions {
  double temperature = 0;  // 0: the largest logit, the first of equal ones
  int64_t top_k = 0;       // candidates kept; 0: all
  double top_p = 1;        // the fewest candidates whose probabilities reach this
  double min_p = 0;        // candidates at least this fraction as likely as the likeliest
  double repetition_penalty =
      1;  // divides positive and multiplies negative logits of tokens seen (Keskar et al. 2019)
  double presence_penalty = 0;    // subtracted once from tokens of the answer
  double frequency_penalty = 0;   // subtracted per occurrence in the answer
  std::map<int32_t, float> bias;  // added to logits
  uint64_t seed = 0;
};

class Sampler {
 public:
  // Throws Error(input) naming the option that is out of range.
  Sampler(SamplerOptions options, int64_t vocab);

  // Whether the token is the first of the largest logits, whatever came before.
  bool likeliest() const {
    const auto& o = options_;
    return o.temperature == 0 && o.repetition_penalty == 1 && o.presence_penalty == 0 &&
           o.frequency_penalty == 0 && o.bias.empty();
  }
  // What an answer to `prompt` begins with (ops/sample.h).
  SamplingSettings settings() const;
  void fill_bias(std::span<float> bias) const;
  static void fill_seen(std::span<const int32_t> prompt, std::span<int32_t> seen);

 private:
  SamplerOptions options_;
};

}  // namespace flashrt
