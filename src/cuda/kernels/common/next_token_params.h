// Launch parameters of the greedy choice; plain data, shared by host and device code.
#pragma once

namespace flashrt {

struct NextTokenParams {
  const float* logits;
  int count;
  struct Part {
    float top, sum;  // the largest logit, and Σ exp(logit − top)
    int at, failed;
  };
  Part* parts;   // one per block
  int* arrived;  // zero between launches
  int *token, *ids, *position;
  float* log_probability;
};

}  // namespace flashrt
