// Chat templates against recorded answers of jinja2, and the limits that keep hostile ones harmless.
#include "io/chat_template.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/json.h"

namespace flashrt {
namespace {

const std::string kData = FLASHRT_TEST_DATA "/chat_template/";

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    return e.what();
  }
  return "no error";
}

std::string render(std::string_view text, JinjaValue::Dict variables = {}) {
  return ChatTemplate(text, "t").render(JinjaValue::dict(std::move(variables)), 0);
}
std::string failure(std::string_view text) {
  return error_of([&] { render(text); });
}

TEST(ChatTemplate, EqualsJinja2) {
  setenv("TZ", "UTC", 1);
  const JsonDocument golden = JsonDocument::read(kData + "golden.json");
  size_t rendered = 0, refused = 0;
  for (const auto& [name, results] : golden.root().at("results").members()) {
    const ChatTemplate chat(read_text_file(kData + std::string(name)), std::string(name));
    for (const auto& [conversation, expected] : results.members()) {
      const JinjaValue variables = JinjaValue::from_json(golden.root().at("variables").at(conversation));
      std::string text;
      const std::string error = error_of([&] { text = chat.render(variables, 0); });
      if (expected.is_null()) {
        EXPECT_NE(error, "no error") << name << ": " << conversation;
        ++refused;
      } else {
        EXPECT_EQ(error, "no error") << name << ": " << conversation;
        EXPECT_EQ(text, expected.text()) << name << ": " << conversation;
        ++rendered;
      }
    }
  }
  EXPECT_GT(rendered, 200u);
  EXPECT_GT(refused, 20u);
}

TEST(ChatTemplate, TakesPlainMessages) {
  const ChatTemplate chat(read_text_file(kData + "gemma.jinja"), "gemma");
  EXPECT_EQ(chat.render({{"user", "Hi"}, {"assistant", "Yes?"}, {"user", "Go"}}, true, "<bos>", "<eos>", 0),
            "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
            "<start_of_turn>user\nGo<end_of_turn>\n<start_of_turn>model\n");
}

TEST(ChatTemplate, WhiteSpaceControl) {
  EXPECT_EQ(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(render("a {{- 1 -}}  b"), "a1b");
  EXPECT_EQ(render("  {%+ if true %}x{% endif +%}\ny"), "  x\ny");
  EXPECT_EQ(render("a\n\n{#- gone -#}\n\nb"), "ab");
  EXPECT_EQ(render("{{ {'a': {'b': 1}}['a']['b'] }}"), "1");
}

TEST(ChatTemplate, ErrorsNameTheTemplateAndTheLine) {
  EXPECT_EQ(failure("a\n{{ x.y }}"), "t: line 2: 'x' is undefined");
  EXPECT_EQ(failure("{{ raise_exception('no tools') }}"),
            "t: line 1: the template refuses this conversation: no tools");
  EXPECT_NE(failure("{% if %}").find("t: line 1: expected an expression"), std::string::npos);
  EXPECT_NE(failure("{% for x in y %}").find("'endfor' is missing"), std::string::npos);
  EXPECT_NE(failure("{{ 'a").find("a string without an end"), std::string::npos);
  EXPECT_NE(failure("{% include 'x' %}").find("the tag 'include' is not supported"), std::string::npos);
  EXPECT_NE(failure("{{ 1 | shell }}").find("the filter 'shell' is not supported"), std::string::npos);
  EXPECT_NE(failure("{% break %}").find("outside of a loop"), std::string::npos);
}

TEST(ChatTemplate, TemplatesReachNothingElse) {
  EXPECT_NE(failure("{{ ''.__class__ }}").find("refused"), std::string::npos);
  EXPECT_NE(failure("{{ [1].append(2) }}").find("no method 'append'"), std::string::npos);
  EXPECT_NE(failure("{{ {}.update({}) }}").find("no method 'update'"), std::string::npos);
  EXPECT_EQ(render("{{ ''['__class__'] }}|{{ self }}|{{ os is defined }}"), "||False");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  const auto begin = std::chrono::steady_clock::now();
  const auto repeat = [](std::string_view text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  for (const std::string& text :
       {std::string("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"),
        std::string("{% for a in range(10001) %}{% endfor %}"),
        std::string("{% set ns = namespace(s='aa') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% "
                    "endfor %}"),
        std::string("{% set ns = namespace(l=[1]) %}{% for a in range(99) %}{% set ns.l = ns.l + ns.l %}{% "
                    "endfor %}"),
        std::string("{% set ns = namespace(l=[1]) %}{% for a in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% "
                    "endfor %}"),
        std::string("{% set ns = namespace(l=[]) %}{% set ns.l = ns %}"),
        std::string(
            "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
            "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}"),
        std::string("{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% "
                    "endfor %}{{ ns.a }}"),
        std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        std::string("{{ 'x' * 999999999 }}"),
        std::string("{{ 9223372036854775807 + 1 }}"),
        std::string("{{ 99999999999999999999 }}"),
        std::string("{{ 1 // 0 }}"),
        std::string("{{ 'a' * -1 + 1 }}"),
        std::string("{{ 'abc' | replace('', 'x' * 4000000) }}"),
        repeat("(", 100000),
        "{{ " + repeat("(", 50000),
        "{{ " + repeat("-", 50000) + "1 }}",
        "{{ " + repeat("not ", 50000) + "1 }}",
        "{{ 1" + repeat(" + 1", 50000) + " }}",
        "{{ a" + repeat(".a", 5000) + " }}",
        "{{ a" + repeat("[0]", 5000) + " }}",
        "{{ a" + repeat("|list", 5000) + " }}",
        repeat("{% if 1 %}", 5000),
        "{% if 1 %}" + repeat("{% elif 1 %}", 5000) + "{% endif %}",
        "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
        "{{ 1" + repeat(" if 1 else 1", 5000) + " }}",
        std::string(300 << 10, 'a')}) {
    const std::string message = failure(text);
    if (text[0] == '(') continue;  // plain text
    EXPECT_TRUE(message.starts_with("t: ")) << text.substr(0, 80) << ": " << message;
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(spent.count(), 20.0);
}

TEST(ChatTemplate, FindsTheTemplateOfACheckpoint) {
  const std::string folder = testing::TempDir() + "/chat_template_test";
  ASSERT_EQ(std::system(("rm -rf '" + folder + "' && mkdir '" + folder + "'").c_str()), 0);
  EXPECT_NE(error_of([&] { ChatTemplate::load(folder); }).find("has no chat template"), std::string::npos);
  const auto write = [&](const std::string& name, const std::string& text) {
    FILE* file = std::fopen((folder + "/" + name).c_str(), "w");
    std::fputs(text.c_str(), file);
    std::fclose(file);
  };
  const auto found = [&] {
    return ChatTemplate::load(folder).render(std::vector<ChatMessage>{}, false, "B", "E", 0);
  };
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d{{ bos_token }}"}]})");
  EXPECT_EQ(found(), "dB");
  write("tokenizer_config.json", R"({"chat_template": "c{{ eos_token }}"})");
  EXPECT_EQ(found(), "cE");
  write("chat_template.jinja", "file\n");
  EXPECT_EQ(found(), "file");
}

}  // namespace
}  // namespace flashrt
