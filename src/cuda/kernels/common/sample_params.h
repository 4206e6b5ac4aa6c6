// Launch parameters of drawing a token; plain data, shared by host and device code.
#pragma once

#include <cstdint>

#include "base/sampling.h"

namespace flashrt {

constexpr int kSampleThreads = 512, kSampleOwn = 8;  // a thread's tokens
constexpr int kSampleBlocks = 128, kSamplePasses = 16;

// Zero between launches.
struct SampleScratch {
  struct Part {
    float top, raw_top,
        raw_sum;     // the largest logits, adjusted and as given; Σ exp(logit as given − raw_top)
    int at, failed;  // where the first is; whether a logit cannot be used
  };
  struct Digits {
    unsigned long long amount[256];
    unsigned count[256];
  };
  Part parts[kSampleBlocks];
  unsigned long long totals[3][kSampleBlocks];
  Digits digits[kSamplePasses];
  int arrived, left;
};

struct SampleParams {
  const float *logits, *bias;
  int* seen;
  const SamplingSettings* settings;
  int count;
  SampleScratch* scratch;
  int *token, *ids, *position;
  float* log_probability;
};

}  // namespace flashrt
