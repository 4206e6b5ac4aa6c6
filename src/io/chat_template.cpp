// Finds, parses and renders chat templates.
#include "io/chat_template.h"

#include <filesystem>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/jinja_interpreter.h"

namespace flashrt {

namespace {
constexpr size_t kMaxTemplateBytes = 256 << 10;
constexpr JsonLimits kLimits{.bytes = 64 << 20, .depth = 32};
}  // namespace

ChatTemplate::ChatTemplate(std::string_view text, std::string source)
    : source_(std::move(source)), root_(parse_jinja(text, source_)) {}

ChatTemplate ChatTemplate::load(const std::string& directory) {
  namespace fs = std::filesystem;
  const fs::path plain = fs::path(directory) / "chat_template.jinja";
  if (fs::exists(plain)) return {read_text_file(plain.string(), kMaxTemplateBytes), plain.string()};
  const fs::path config = fs::path(directory) / "tokenizer_config.json";
  if (fs::exists(config)) {
    const JsonDocument document = JsonDocument::read(config.string(), kLimits);
    const std::string source = config.string() + ": chat_template";
    if (const auto node = document.root().find("chat_template")) {
      if (node->is_text()) return {node->text(), source};
      for (const JsonNode& entry : node->elements()) {
        if (entry.at("name").text() == "default") return {entry.at("template").text(), source};
      }
    }
  }
  fail(
      "{}: has no chat template: expected chat_template.jinja, or \"chat_template\" in tokenizer_config.json",
      directory);
}

std::string ChatTemplate::render(const JinjaValue& variables, int64_t now) const {
  return render_jinja(*root_, variables, now, source_);
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages, bool add_generation_prompt,
                                 std::string_view bos_token, std::string_view eos_token, int64_t now) const {
  JinjaValue::List list;
  for (const ChatMessage& m : messages)
    list.push_back(JinjaValue::dict({{"role", m.role}, {"content", m.content}}));
  return render(JinjaValue::dict({{"messages", JinjaValue::list(std::move(list))},
                                  {"add_generation_prompt", add_generation_prompt},
                                  {"bos_token", bos_token},
                                  {"eos_token", eos_token}}),
                now);
}

}  // namespace flashrt
