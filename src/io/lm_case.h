// Recorded language model calls: a prompt, its logits, and the greedy continuation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flashrt {

struct LmCase {
  std::vector<int32_t> token_ids;
  int64_t vocab = 0;
  std::vector<float> logits;    // [tokens, vocab]
  std::vector<int32_t> greedy;  // the tokens that follow the prompt
};

LmCase read_lm_case(const std::string& path);

// The metadata `kind` of a case file: "policy" or "lm". Throws Error(input) when it is another or none.
std::string case_kind(const std::string& path);

}  // namespace flashrt
