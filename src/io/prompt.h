// The text a policy reads: instruction and, for Pi0.5, the discretised state → token ids.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/policy_config.h"
#include "io/tokenizer.h"

namespace flashrt {

// The bin of a normalised state value: how many of the edges −1 + i/128, i = 0…255, lie at or below it, minus
// 1; so −1 below −1, and 255 from 127/128 on. (openpi: np.digitize(x, linspace(-1, 1, 257)[:-1]) - 1)
int state_bin(float x) noexcept;

// Turns an instruction into the ids of one policy. By the rule of the code that trained it:
//   openpi        [bos] clean(text), then "\n" encoded apart
//   lerobot,
//   transformers  [bos] text + "\n" (unless it ends in one), as given
//   with state    [bos] "Task: " clean(text) ", State: " bins ";\nAction: "
// where clean strips and turns "_" and line ends into spaces. LIBERO's Pi0.5 has no state in its prompt.
class PromptEncoder {
 public:
  PromptEncoder(Tokenizer tokenizer, const PolicyConfig& config);

  // Throws Error(input) for a prompt without a visible character; warns when it may be cut. Reserves the
  // memory that encode needs for up to as many dimensions as the robot has.
  void set_text(std::string_view text);
  // Allocates nothing. At most config.max_prompt_tokens ids, cut at the end; valid until the next call.
  // `state`: normalised, the robot's own dimensions; ignored when the prompt has no state. Throws for a state
  // that is not finite.
  std::span<const int32_t> encode(std::span<const float> state = {});
  bool truncated() const { return truncated_; }  // whether the last encode was cut
  int max_tokens() const { return max_tokens_; }

 private:
  Tokenizer tokenizer_;
  PromptRule rule_;
  bool with_state_;
  int max_tokens_, vocab_, state_dims_;
  std::string text_, full_;  // cleaned instruction; the text of the last encode
  std::vector<int32_t> ids_, newline_;
  EncodeScratch scratch_;
  bool truncated_ = false;
};

}  // namespace flashrt
