// Prompt templates of Pi0 and Pi0.5.
#include "io/prompt.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "base/log.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

// Python's str.strip(): Unicode white space and the four ASCII separators.
bool is_strippable(uint32_t c) { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

std::string_view strip(std::string_view text) {
  size_t begin = text.size(), end = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    const size_t size = std::max(c.size, 1u);
    if (c.size == 0 || !is_strippable(c.value)) {
      begin = std::min(begin, i);
      end = i + size;
    }
    i += size;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

}  // namespace

int state_bin(float x) noexcept {
  return int(std::clamp(std::floor(x * 128.0f), -129.0f, 127.0f)) + 128;  // · 128 is exact
}

PromptEncoder::PromptEncoder(Tokenizer tokenizer, const PolicyConfig& config)
    : tokenizer_(std::move(tokenizer)),
      rule_(config.prompt),
      with_state_(config.state_in_prompt),
      max_tokens_(int(config.max_prompt_tokens)),
      vocab_(int(config.vocab)),
      state_dims_(int(config.robot_state_dim ? config.robot_state_dim : config.state_dim)) {
  if (tokenizer_.bos() < 0)
    fail("the tokenizer has no beginning-of-text token, which every prompt starts with");
  newline_ = tokenizer_.encode("\n");
}

void PromptEncoder::set_text(std::string_view text) {
  const std::string_view stripped = strip(text);
  if (stripped.empty()) fail("the prompt is empty: say what the robot should do");
  if (with_state_ || rule_ == PromptRule::openpi) {
    text_ = stripped;
    std::replace(text_.begin(), text_.end(), '_', ' ');
    std::replace(text_.begin(), text_.end(), '\n', ' ');
  } else {
    text_ = text;
    if (!text_.ends_with('\n')) text_ += '\n';
  }
  const std::vector<float> longest(size_t(state_dims_), 0.99f);  // three digits each
  encode(longest);
  ids_.reserve(full_.size() * 3 + 8);  // a space may be three byte tokens
  if (truncated_) {
    log_warn("the prompt may be cut to the {} tokens the policy was trained with: '{}'", max_tokens_,
             stripped);
  }
}

std::span<const int32_t> PromptEncoder::encode(std::span<const float> state) {
  full_ = with_state_ ? "Task: " : "";
  full_ += text_;
  if (with_state_) {
    full_ += ", State: ";
    for (size_t i = 0; i < state.size(); ++i) {
      if (!std::isfinite(state[i])) fail("state[{}] is not finite: {}", i, state[i]);
      fmt::format_to(std::back_inserter(full_), "{}{}", i > 0 ? " " : "", state_bin(state[i]));
    }
    full_ += ";\nAction: ";
  }
  ids_.assign(1, tokenizer_.bos());
  tokenizer_.encode(full_, scratch_, ids_);
  if (!with_state_ && rule_ == PromptRule::openpi) ids_.insert(ids_.end(), newline_.begin(), newline_.end());
  for (const int32_t id : ids_) {  // a tokenizer may know tokens that the network has no embedding for
    if (id >= vocab_) fail("the prompt has token {}, but the checkpoint only knows {}", id, vocab_);
  }
  truncated_ = ids_.size() > size_t(max_tokens_);
  if (truncated_) ids_.resize(size_t(max_tokens_));
  return ids_;
}

}  // namespace flashrt
