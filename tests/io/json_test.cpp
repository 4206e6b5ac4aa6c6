// The strict JSON reader: order, ranges, caps, and messages that name file, pointer, expected and found.
#include "io/json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace flashrt {
namespace {

template <class F>
std::string error_of(F&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    return error.what();
  }
  return "no error";
}

std::string parse_error(std::string_view text, const JsonLimits& limits = {}) {
  return error_of([&] { JsonDocument(text, "a.json", limits); });
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

TEST(Json, KeepsTheOrderOfMembers) {
  const JsonDocument document(R"({"z":1,"a":{"k/~":[true,null,"ü",-2,1.5]}})", "a.json");
  std::string order;
  for (const auto& [name, node] : document.root().members()) order += name;
  EXPECT_EQ(order, "za");
  const auto list = document.root().at("a").at("k/~").elements();
  ASSERT_EQ(list.size(), 5u);
  EXPECT_TRUE(list[0].boolean());
  EXPECT_TRUE(list[1].is_null());
  EXPECT_EQ(list[2].text(), "ü");
  EXPECT_EQ(list[3].integer(-5, 5), -2);
  EXPECT_EQ(list[4].number(), 1.5);
  EXPECT_EQ(list[4].pointer(), "/a/k~1~0/4");
}

TEST(Json, NullCountsAsAbsent) {
  const JsonDocument document(R"({"a":null,"b":2})", "a.json");
  EXPECT_FALSE(document.root().find("a"));
  EXPECT_EQ(document.root().integer_or("a", 7, 0, 10), 7);
  EXPECT_EQ(document.root().integer_or("b", 7, 0, 10), 2);
  EXPECT_TRUE(contains(error_of([&] { document.root().at("a"); }), "the field \"a\" is missing"));
}

TEST(Json, ChecksTypesAndRanges) {
  const JsonDocument document(
      R"({"i":3.0,"big":18446744073709551615,"huge":1e40,"s":"x","n":-1,"b":1,"top":9223372036854775807})",
      "a.json");
  const JsonNode root = document.root();
  EXPECT_EQ(error_of([&] { root.at("i").integer(0, 9); }),
            "a.json: /i: expected an integer from 0 to 9, found 3");
  EXPECT_TRUE(
      contains(error_of([&] { root.at("big").integer(0, INT64_MAX); }), "found 18446744073709551615"));
  EXPECT_EQ(root.at("top").integer(0, INT64_MAX), INT64_MAX);
  EXPECT_TRUE(
      contains(error_of([&] { root.at("huge").number(0, 1e30); }), "expected a number from 0 to 1e+30"));
  EXPECT_TRUE(contains(error_of([&] { root.at("s").number(); }), "/s: expected a number, found \"x\""));
  EXPECT_TRUE(contains(error_of([&] { root.at("n").integer(0, 9); }), "found -1"));
  EXPECT_TRUE(contains(error_of([&] { root.at("b").boolean(); }), "expected true or false, found 1"));
  EXPECT_TRUE(contains(error_of([&] { root.at("s").elements(); }), "expected an array"));
  EXPECT_TRUE(contains(error_of([&] { root.at("s").at("t"); }), "/s: expected an object"));
}

TEST(Json, RefusesMalformedText) {
  for (const char* text :
       {"", "{", "{}}", "[1,]", "{\"a\":NaN}", "[Infinity]", "[1e999]", "[01]", "nul", "\"\xc3\"",
        "\"\xed\xa0\x80\"", "\"\\ud800\"", "[1] // x", "'a'", "[+1]", "\"\t\""}) {
    EXPECT_TRUE(contains(parse_error(text), "a.json: malformed JSON")) << text << ": " << parse_error(text);
  }
  EXPECT_TRUE(contains(parse_error(R"({"a":{"b":1,"b":2}})"), "duplicate key \"b\""));
  EXPECT_EQ(parse_error(R"([{"a":1},{"a":1}])"), "no error");
}

TEST(Json, HoldsItsCaps) {
  const std::string deep = std::string(64, '[') + std::string(64, ']');
  EXPECT_EQ(parse_error(deep), "no error");
  EXPECT_TRUE(contains(parse_error("[" + deep + "]"), "nested deeper than the limit of 64"));
  EXPECT_TRUE(contains(parse_error(std::string(1'000'000, '[')), "nested deeper"));
  EXPECT_TRUE(contains(parse_error("[1,2,3]", {.bytes = 6}), "7 bytes of JSON, more than the limit of 6"));
  EXPECT_TRUE(contains(parse_error("[1,2,3]", {.nodes = 3}), "more than 3 values"));
  EXPECT_TRUE(
      contains(error_of([] { JsonDocument::read("/absent/x.json"); }), "/absent/x.json: cannot open"));
}

TEST(Json, QuotesAnyText) {
  const std::string text = std::string("a\"\\\n\x01ü") + '\0';
  const std::string quoted = json_quote(text);
  EXPECT_EQ(quoted, "\"a\\\"\\\\\\u000a\\u0001ü\\u0000\"");
  EXPECT_EQ(JsonDocument(quoted, "q").root().text(), text);
}

}  // namespace
}  // namespace flashrt
