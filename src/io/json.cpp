// JsonDocument over nlohmann's SAX parser, which is iterative: the caps hold before anything nests.
#include "io/json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/mapped_file.h"

namespace flashrt {

namespace {

class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(JsonValue* root, const std::string& source, const JsonLimits& limits)
      : root_(root), source_(source), limits_(limits) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool v) override { return scalar(v); }
  bool number_integer(number_integer_t v) override { return scalar(int64_t{v}); }
  bool number_unsigned(number_unsigned_t v) override { return scalar(uint64_t{v}); }
  bool number_float(number_float_t v, const string_t& text) override {
    if (!std::isfinite(v)) fail("{}: malformed JSON: {} is outside the range of a double", source_, text);
    return scalar(double{v});
  }
  bool string(string_t& v) override { return scalar(std::move(v)); }
  bool binary(binary_t&) override { return false; }  // only the binary formats produce it
  bool start_object(size_t) override {
    open(JsonValue::Object{});
    keys_.emplace_back();
    return true;
  }
  bool key(string_t& v) override {
    if (!keys_.back().insert(v).second) fail("{}: malformed JSON: duplicate key {}", source_, json_quote(v));
    key_ = std::move(v);
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    open_.pop_back();
    return true;
  }
  bool start_array(size_t) override {
    open(JsonValue::Array{});
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& error) override {
    fail("{}: malformed JSON at byte {}: {}", source_, position, error.what());
  }

 private:
  template <class T>
  bool scalar(T&& value) {
    place()->data = std::forward<T>(value);
    return true;
  }
  template <class T>
  void open(T&& empty) {
    if (int(open_.size()) >= limits_.depth) {
      fail("{}: malformed JSON: nested deeper than the limit of {}", source_, limits_.depth);
    }
    JsonValue* value = place();
    value->data = std::forward<T>(empty);
    open_.push_back(value);
  }
  // Where the next value goes. Open containers never move: only the innermost one grows.
  JsonValue* place() {
    if (++nodes_ > limits_.nodes) fail("{}: malformed JSON: more than {} values", source_, limits_.nodes);
    if (open_.empty()) return root_;
    if (auto* array = std::get_if<JsonValue::Array>(&open_.back()->data)) return &array->emplace_back();
    auto& object = std::get<JsonValue::Object>(open_.back()->data);
    return &object.emplace_back(std::move(key_), JsonValue{}).second;
  }

  JsonValue* root_;
  const std::string& source_;
  const JsonLimits& limits_;
  std::vector<JsonValue*> open_;
  std::vector<std::unordered_set<std::string>> keys_;
  std::string key_;
  size_t nodes_ = 0;
};

constexpr std::string_view kKinds[] = {"null",          "a boolean", "an integer", "an integer",
                                       "a real number", "a string",  "an array",   "an object"};

}  // namespace

JsonDocument::JsonDocument(std::string_view text, std::string source, const JsonLimits& limits)
    : state_(std::make_unique<State>()) {
  state_->source = std::move(source);
  if (text.size() > limits.bytes) {
    fail("{}: {} bytes of JSON, more than the limit of {}", state_->source, text.size(), limits.bytes);
  }
  Builder builder(&state_->value, state_->source, limits);
  const bool ok = nlohmann::json::sax_parse(text, &builder);
  check(ok, "the JSON parser stopped without an error");
}

JsonDocument JsonDocument::read(const std::string& path, const JsonLimits& limits) {
  return {read_text_file(path, limits.bytes), path, limits};
}

std::string JsonNode::found() const {
  const std::string_view kind = kKinds[value_->data.index()];
  if (const auto* v = std::get_if<bool>(&value_->data)) return *v ? "true" : "false";
  if (const auto* v = std::get_if<int64_t>(&value_->data)) return fmt::format("{}", *v);
  if (const auto* v = std::get_if<uint64_t>(&value_->data)) return fmt::format("{}", *v);
  if (const auto* v = std::get_if<double>(&value_->data)) return fmt::format("{}", *v);
  if (const auto* v = std::get_if<std::string>(&value_->data)) {
    return v->size() <= 80 ? json_quote(*v) : fmt::format("a string of {} bytes", v->size());
  }
  if (const auto* v = std::get_if<JsonValue::Array>(&value_->data)) {
    return fmt::format("an array of {} values", v->size());
  }
  return std::string(kind);
}

void JsonNode::fail_expected(std::string_view what) const {
  fail("{}: {}: expected {}, found {}", *source_, pointer_.empty() ? "the document" : pointer_, what,
       found());
}

template <class T>
const T& JsonNode::get(std::string_view expected) const {
  const T* value = std::get_if<T>(&value_->data);
  if (value == nullptr) fail_expected(expected);
  return *value;
}

JsonNode JsonNode::child(std::string_view key, const JsonValue& value) const {
  std::string pointer = pointer_ + '/';  // RFC 6901: ~ is ~0, / is ~1
  for (const char c : key) {
    if (c == '~')
      pointer += "~0";
    else if (c == '/')
      pointer += "~1";
    else
      pointer += c;
  }
  return {&value, source_, std::move(pointer)};
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  for (const auto& [name, value] : get<JsonValue::Object>("an object")) {
    if (name == key && !std::holds_alternative<std::nullptr_t>(value.data)) return child(key, value);
  }
  return std::nullopt;
}

JsonNode JsonNode::at(std::string_view key) const {
  if (auto node = find(key)) return *node;
  fail("{}: {}: the field {} is missing", *source_, pointer_.empty() ? "the document" : pointer_,
       json_quote(key));
}

std::vector<std::pair<std::string_view, JsonNode>> JsonNode::members() const {
  std::vector<std::pair<std::string_view, JsonNode>> result;
  for (const auto& [name, value] : get<JsonValue::Object>("an object")) {
    result.emplace_back(name, child(name, value));
  }
  return result;
}

std::vector<JsonNode> JsonNode::elements() const {
  std::vector<JsonNode> result;
  for (const auto& value : get<JsonValue::Array>("an array")) {
    result.push_back(child(std::to_string(result.size()), value));
  }
  return result;
}

int64_t JsonNode::integer(int64_t low, int64_t high) const {
  int64_t value = 0;
  bool ok = true;
  if (const auto* v = std::get_if<int64_t>(&value_->data)) {
    value = *v;
  } else if (const auto* u = std::get_if<uint64_t>(&value_->data)) {
    ok = *u <= uint64_t(INT64_MAX);
    value = ok ? int64_t(*u) : 0;
  } else {
    ok = false;
  }
  if (!ok || value < low || value > high) fail_expected(fmt::format("an integer from {} to {}", low, high));
  return value;
}

double JsonNode::number() const {
  if (const auto* v = std::get_if<int64_t>(&value_->data)) return double(*v);
  if (const auto* u = std::get_if<uint64_t>(&value_->data)) return double(*u);
  return get<double>("a number");
}

double JsonNode::number(double low, double high) const {
  const double value = number();
  if (!(value >= low && value <= high)) fail_expected(fmt::format("a number from {} to {}", low, high));
  return value;
}

bool JsonNode::boolean() const { return get<bool>("true or false"); }

const std::string& JsonNode::text() const { return get<std::string>("a string"); }

int64_t JsonNode::integer_or(std::string_view key, int64_t fallback, int64_t low, int64_t high) const {
  const auto node = find(key);
  return node ? node->integer(low, high) : fallback;
}

double JsonNode::number_or(std::string_view key, double fallback, double low, double high) const {
  const auto node = find(key);
  return node ? node->number(low, high) : fallback;
}

bool JsonNode::boolean_or(std::string_view key, bool fallback) const {
  const auto node = find(key);
  return node ? node->boolean() : fallback;
}

std::string JsonNode::text_or(std::string_view key, std::string_view fallback) const {
  const auto node = find(key);
  return node ? node->text() : std::string(fallback);
}

std::string json_quote(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      result += fmt::format("\\u{:04x}", int(c));
    else
      result += c;
  }
  return result + '"';
}

}  // namespace flashrt
