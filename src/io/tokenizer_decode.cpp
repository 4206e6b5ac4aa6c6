// Decoder steps with the semantics of huggingface/tokenizers.
#include "io/tokenizer_decode.h"

#include "base/error.h"
#include "io/tokenizer_split.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

constexpr size_t kMaxSteps = 64;

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = char(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// "<0xNN>" → 0…255, else −1.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const int high = hex(token[3]), low = hex(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Runs of byte tokens become their text; a run that is not UTF-8 becomes one U+FFFD per byte.
void join_bytes(std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (is_valid_utf8(run))
      out.push_back(run);
    else
      out.insert(out.end(), run.size(), std::string(kReplacementText));
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = byte_of(token); byte >= 0) {
      run += char(byte);
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

std::string join(const std::vector<std::string>& tokens, std::string_view between) {
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += between;
    out += tokens[i];
  }
  return out;
}

// Each token by the byte alphabet, tokens outside it as they are; malformed UTF-8 becomes U+FFFD.
void from_byte_level(std::vector<std::string>& tokens) {
  std::string all, bytes;
  for (const std::string& token : tokens) all += printable_to_bytes(token, bytes) ? bytes : token;
  tokens.assign(1, replace_malformed(all));
}

void strip(std::string& token, std::string_view what, size_t start, size_t stop) {
  std::string_view rest = token;
  for (size_t i = 0; i < start && rest.starts_with(what); ++i) rest.remove_prefix(what.size());
  for (size_t i = 0; i < stop && rest.ends_with(what); ++i) rest.remove_suffix(what.size());
  token = std::string(rest);
}

}  // namespace

void TokenDecoder::add(const JsonNode& node) {
  const std::string type = node.at("type").text();
  if (type == "Sequence") {
    for (const JsonNode& child : node.at("decoders").elements()) add(child);
    return;
  }
  if (steps_.size() == kMaxSteps) fail("{}: more than {} decoders", node.source(), kMaxSteps);
  Step step{};
  if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
  } else if (type == "ByteFallback") {
    step.kind = Kind::byte_fallback;
  } else if (type == "Fuse") {
    step.kind = Kind::fuse;
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    step.text = node.text_or("content", " ");
    if (step.text.empty()) node.at("content").fail_expected("one character");
    step.start = size_t(node.integer_or("start", 0, 0, 1 << 20));
    step.stop = size_t(node.integer_or("stop", 0, 0, 1 << 20));
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    step.pattern = Pattern::parse(node.at("pattern"));
    step.text = node.at("content").text();
  } else if (type == "Metaspace") {
    step.kind = Kind::metaspace;
    step.text = node.text_or("replacement", "\xE2\x96\x81");
    if (step.text.empty()) node.at("replacement").fail_expected("one character");
    step.drops_first =
        node.text_or("prepend_scheme", "always") != "never" && node.boolean_or("add_prefix_space", true);
  } else {
    fail("{}: {}: the decoder {} is not supported", node.source(), node.pointer(), json_quote(type));
  }
  steps_.push_back(std::move(step));
}

void TokenDecoder::apply(const Step& step, std::vector<std::string>& tokens) {
  Pattern::Matches matches;
  std::string spare;
  switch (step.kind) {
    case Kind::byte_level: from_byte_level(tokens); break;
    case Kind::byte_fallback: join_bytes(tokens); break;
    case Kind::fuse: tokens.assign(1, join(tokens, "")); break;
    case Kind::strip:
      for (std::string& token : tokens) strip(token, step.text, step.start, step.stop);
      break;
    case Kind::replace:
      for (std::string& token : tokens) step.pattern->replace(token, step.text, matches, spare);
      break;
    case Kind::metaspace:
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (i == 0 && step.drops_first)
          replace_all(tokens[i], step.text, "");
        else
          replace_all(tokens[i], step.text, " ");
      }
      break;
  }
}

bool TokenDecoder::is_byte(std::string_view token) const {
  for (const Step& step : steps_) {
    if (step.kind == Kind::byte_fallback) return byte_of(token) >= 0;
  }
  return false;
}

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
  if (steps_.empty()) return join(tokens, " ");
  for (const Step& step : steps_) apply(step, tokens);
  return join(tokens, "");
}

}  // namespace flashrt
