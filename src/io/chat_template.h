// Conversations → the text a chat model was trained on, by the template of its tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/jinja_value.h"

namespace flashrt {

struct JinjaNode;

struct ChatMessage {
  std::string role, content;  // "system", "user", "assistant"
};

class ChatTemplate {
 public:
  // `source` names the template in messages. Templates are untrusted: they see the values below and nothing
  // else.
  ChatTemplate(std::string_view text, std::string source);
  // From tokenizer_config.json ("chat_template", text or a list with one named "default") or
  // chat_template.jinja in a checkpoint's directory. Throws Error(input) when there is none.
  static ChatTemplate load(const std::string& directory);

  // `variables`: a dict such as {messages, add_generation_prompt, bos_token, eos_token, tools}.
  std::string render(const JinjaValue& variables, int64_t now) const;
  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt,
                     std::string_view bos_token, std::string_view eos_token, int64_t now) const;

 private:
  std::string source_;
  std::shared_ptr<const JinjaNode> root_;
};

}  // namespace flashrt
