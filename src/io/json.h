// Strict JSON reader: caps on size, depth and nodes, no duplicate keys; members keep the order of the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace flashrt {

struct JsonLimits {
  size_t bytes = size_t{256} << 20;
  size_t nodes = size_t{32} << 20;
  int depth = 64;
};

struct JsonValue {
  using Array = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;
  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, Object> data = nullptr;
};

// A value of a document and where it stands. Every accessor throws Error(input) naming the file, the JSON
// pointer, what was expected and what was found. Valid as long as its document.
class JsonNode {
 public:
  JsonNode(const JsonValue* value, const std::string* source, std::string pointer)
      : value_(value), source_(source), pointer_(std::move(pointer)) {}

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_->data); }
  bool is_text() const { return std::holds_alternative<std::string>(value_->data); }
  bool is_array() const { return std::holds_alternative<JsonValue::Array>(value_->data); }
  bool is_object() const { return std::holds_alternative<JsonValue::Object>(value_->data); }

  std::optional<JsonNode> find(std::string_view key) const;  // null counts as absent
  JsonNode at(std::string_view key) const;
  std::vector<std::pair<std::string_view, JsonNode>> members() const;
  std::vector<JsonNode> elements() const;

  int64_t integer(int64_t low, int64_t high) const;  // 3.0 is no integer
  double number(double low, double high) const;
  double number() const;  // JSON numbers are finite
  bool boolean() const;
  const std::string& text() const;

  int64_t integer_or(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  double number_or(std::string_view key, double fallback, double low, double high) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;

  const std::string& source() const { return *source_; }
  const std::string& pointer() const { return pointer_; }
  std::string found() const;  // for messages: kind and, for scalars, the value
  [[noreturn]] void fail_expected(std::string_view what) const;

 private:
  JsonNode child(std::string_view key, const JsonValue& value) const;
  template <class T>
  const T& get(std::string_view expected) const;

  const JsonValue* value_;
  const std::string* source_;
  std::string pointer_;
};

class JsonDocument {
 public:
  // `source` names the text in messages (a path).
  JsonDocument(std::string_view text, std::string source, const JsonLimits& limits = {});
  static JsonDocument read(const std::string& path, const JsonLimits& limits = {});
  JsonNode root() const { return {&state_->value, &state_->source, ""}; }

 private:
  struct State {
    std::string source;
    JsonValue value;
  };
  std::unique_ptr<State> state_;
};

// A JSON string literal, quotes included.
std::string json_quote(std::string_view text);

}  // namespace flashrt
