// One token from logits: penalties, temperature, top-k, top-p, min-p; the same seed gives the same tokens.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

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

  void see(std::span<const int32_t> prompt);  // counts for the repetition penalty alone
  // The next token, counted as seen. Throws when a logit is no number. In order: penalties, bias,
  // temperature, top-k, top-p, min-p; probabilities are of the candidates that the filter before left.
  int32_t pick(std::span<const float> logits);
  // Whether pick returns the first of the largest logits, whatever came before.
  bool likeliest() const {
    const auto& o = options_;
    return o.temperature == 0 && o.repetition_penalty == 1 && o.presence_penalty == 0 && o.frequency_penalty == 0 &&
           o.bias.empty();
  }
  // The log probability of the last pick under the logits as given.
  double log_probability() const { return log_probability_; }

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  void adjust(std::span<const float> logits);
  int32_t draw();

  SamplerOptions options_;
  std::vector<bool> seen_;
  std::vector<int32_t> count_;  // in the answer
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
  uint64_t drawn_ = 0;
  double log_probability_ = 0;
};

}  // namespace flashrt
