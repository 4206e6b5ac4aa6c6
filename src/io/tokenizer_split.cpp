// Pre-tokenizers with the semantics of huggingface/tokenizers.
#include "io/tokenizer_split.h"

#include <utf8proc.h>

#include <array>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

constexpr size_t kMaxSteps = 64;
// GPT-2's words: contractions, then runs of letters, numbers or others with one leading space, then space.
constexpr const char* kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct ByteAlphabet {
  std::array<uint32_t, 256> code{};
  std::array<int, 512> byte{};
  ByteAlphabet() {
    byte.fill(-1);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      code[b] = itself ? b : next++;
      byte[code[b]] = int(b);
    }
  }
};
const ByteAlphabet kAlphabet;

// A maximal run: matched by the pattern or between two matches.
struct Run {
  size_t begin, end;
  bool matched;
};

std::vector<Run> runs_of(const std::vector<std::pair<size_t, size_t>>& matches, size_t size, bool invert) {
  std::vector<Run> runs;
  size_t at = 0;
  for (const auto& [begin, end] : matches) {
    if (at < begin) runs.push_back({at, begin, invert});
    runs.push_back({begin, end, !invert});
    at = end;
  }
  if (at < size) runs.push_back({at, size, invert});
  return runs;
}

std::vector<std::pair<size_t, size_t>> digits_in(std::string_view text, bool individual) {
  std::vector<std::pair<size_t, size_t>> found;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    const auto category = utf8proc_category(int32_t(c.value));
    const bool numeric = category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
                         category == UTF8PROC_CATEGORY_NO;
    if (numeric && !individual && !found.empty() && found.back().second == i)
      found.back().second += c.size;
    else if (numeric)
      found.emplace_back(i, i + c.size);
    i += c.size;
  }
  return found;
}

}  // namespace

std::string bytes_to_printable(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (const char c : bytes) append_utf8(out, kAlphabet.code[uint8_t(c)]);
  return out;
}

bool printable_to_bytes(std::string_view text, std::string& bytes) {
  bytes.clear();
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (c.size == 0 || c.value >= 512 || kAlphabet.byte[c.value] < 0) return false;
    bytes += char(kAlphabet.byte[c.value]);
    i += c.size;
  }
  return true;
}

void PreTokenizer::add(const JsonNode& node) {
  const std::string type = node.at("type").text();
  if (type == "Sequence") {
    for (const JsonNode& child : node.at("pretokenizers").elements()) add(child);
    return;
  }
  if (steps_.size() == kMaxSteps) fail("{}: more than {} pre-tokenizers", node.source(), kMaxSteps);
  const auto choice = [&](const char* key, const char* fallback,
                          std::initializer_list<std::string_view> names) {
    const std::string name = node.text_or(key, fallback);
    int index = 0;
    for (const std::string_view known : names) {
      if (known == name) return index;
      ++index;
    }
    fail("{}: {}/{}: {} is not supported", node.source(), node.pointer(), key, json_quote(name));
  };
  Step step{};
  if (type == "Split") {
    step.kind = Kind::split;
    step.pattern = Pattern::parse(node.at("pattern"));
    step.invert = node.boolean_or("invert", false);
    step.behavior =
        Behavior(choice("behavior", "Isolated",
                        {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"}));
  } else if (type == "ByteLevel") {
    step.kind = Kind::byte_level;
    step.prefix_space = node.boolean_or("add_prefix_space", true);
    step.cuts = node.boolean_or("use_regex", true);
    if (step.cuts) step.pattern = Pattern::regex(kByteLevelRegex, node.source());
  } else if (type == "Metaspace") {
    step.kind = Kind::metaspace;
    step.mark = node.text_or("replacement", "\xE2\x96\x81");
    if (code_point_at(step.mark, 0).size != step.mark.size())
      node.at("replacement").fail_expected("one character");
    step.prepend = Prepend(choice("prepend_scheme", "always", {"always", "first", "never"}));
    if (!node.boolean_or("add_prefix_space", true)) step.prepend = Prepend::never;
    step.cuts = node.boolean_or("split", true);
    step.pattern = Pattern::literal(step.mark);
    step.behavior = Behavior::merged_with_next;
  } else if (type == "Digits") {
    step.kind = Kind::digits;
    step.individual = node.boolean_or("individual_digits", false);
  } else {
    fail("{}: {}: the pre-tokenizer {} is not supported", node.source(), node.pointer(), json_quote(type));
  }
  steps_.push_back(std::move(step));
}

// Cuts one piece where the step's pattern matches, by its behaviour.
void PreTokenizer::cut(const Step& step, const TextPiece& piece, std::vector<TextPiece>& out) {
  const auto matches =
      step.kind == Kind::digits ? digits_in(piece.text, step.individual) : step.pattern->matches(piece.text);
  std::vector<Run> cuts;
  bool previous = false;  // whether the run before was matched
  const std::vector<Run> runs = runs_of(matches, piece.text.size(), step.invert);
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    bool joins = false;
    switch (step.behavior) {
      case Behavior::removed:
        if (run.matched) continue;
        break;
      case Behavior::isolated: break;
      case Behavior::contiguous: joins = i > 0 && run.matched == previous; break;
      case Behavior::merged_with_previous: joins = i > 0 && run.matched && !previous; break;
      case Behavior::merged_with_next: joins = i > 0 && !run.matched && previous; break;
    }
    if (joins)
      cuts.back().end = run.end;
    else
      cuts.push_back(run);
    previous = run.matched;
  }
  for (const Run& run : cuts) {
    out.push_back({piece.text.substr(run.begin, run.end - run.begin), piece.at_start && run.begin == 0});
  }
}

void PreTokenizer::apply(const Step& step, TextPiece& piece, std::vector<TextPiece>& out) {
  if (step.kind == Kind::byte_level) {
    if (step.prefix_space && !piece.text.starts_with(' ')) piece.text = ' ' + piece.text;
    const size_t first = out.size();
    if (step.cuts)
      cut(step, piece, out);
    else
      out.push_back(piece);
    for (size_t i = first; i < out.size(); ++i) out[i].text = bytes_to_printable(out[i].text);
  } else if (step.kind == Kind::metaspace) {
    replace_all(piece.text, " ", step.mark);
    const bool wanted = step.prepend == Prepend::always || (step.prepend == Prepend::first && piece.at_start);
    if (wanted && !piece.text.starts_with(step.mark)) piece.text = step.mark + piece.text;
    if (!step.cuts) {
      out.push_back(piece);
      return;
    }
    cut(step, piece, out);
  } else {
    cut(step, piece, out);
  }
}

void PreTokenizer::split(std::vector<TextPiece>& pieces) const {
  for (const Step& step : steps_) {
    std::vector<TextPiece> out;
    for (TextPiece& piece : pieces) {
      if (!piece.text.empty()) apply(step, piece, out);
    }
    pieces = std::move(out);
  }
}

}  // namespace flashrt
