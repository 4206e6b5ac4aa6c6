// Renders for chat_template.py: reads lines {"template", "variables"}, writes lines {"text"} or {"error"}.
#include <cstdio>
#include <iostream>

#include "base/error.h"
#include "io/chat_template.h"

int main() {
  using namespace flashrt;
  for (std::string line; std::getline(std::cin, line);) {
    JinjaValue::Dict reply;
    try {
      const JsonDocument document(line, "stdin");
      const ChatTemplate chat(document.root().at("template").text(), "template");
      reply = {{"text", chat.render(JinjaValue::from_json(document.root().at("variables")), 0)}};
    } catch (const Error& error) {
      reply = {{"error", error.what()}};
    }
    std::puts(to_json(JinjaValue::dict(reply)).c_str());
  }
}
