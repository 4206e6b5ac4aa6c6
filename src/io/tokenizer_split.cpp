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

void find_digits(std::string_view text, bool individual, Pattern::Matches& found) {
  found.clear();
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
}

}  // namespace

void append_printable(std::string_view bytes, std::string& out) {
  for (const char c : bytes) append_utf8(out, kAlphabet.code[uint8_t(c)]);
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

// Cuts every word where the step's pattern matches, by its behaviour.
void PreTokenizer::cut(const Step& step, EncodeScratch& scratch) {
  scratch.spare_words.clear();
  for (const EncodeScratch::Word& word : scratch.words) {
    const std::string_view text = std::string_view(scratch.text).substr(word.begin, word.size);
    if (step.kind == Kind::digits)
      find_digits(text, step.individual, scratch.matches);
    else
      step.pattern->find(text, scratch.matches);
    bool first = true, previous = false;  // previous: whether the run before was matched
    const auto run = [&](size_t begin, size_t end, bool matched) {
      if (begin == end || (matched && step.behavior == Behavior::removed)) return;
      const bool joins =
          !first && ((step.behavior == Behavior::contiguous && matched == previous) ||
                     (step.behavior == Behavior::merged_with_previous && matched && !previous) ||
                     (step.behavior == Behavior::merged_with_next && !matched && previous));
      if (joins)
        scratch.spare_words.back().size += end - begin;
      else
        scratch.spare_words.push_back({word.begin + begin, end - begin, word.at_start && begin == 0});
      first = false;
      previous = matched;
    };
    size_t at = 0;
    for (const auto& [begin, end] : scratch.matches) {
      run(at, begin, step.invert);
      run(begin, end, !step.invert);
      at = end;
    }
    run(at, text.size(), step.invert);
  }
  scratch.words.swap(scratch.spare_words);
}

// Replaces the text of every word by what append(word, text, out) adds to `out`.
template <class Append>
void PreTokenizer::rewrite(EncodeScratch& scratch, Append&& append) {
  scratch.spare_text.clear();
  for (EncodeScratch::Word& word : scratch.words) {
    const size_t begin = scratch.spare_text.size();
    append(word, std::string_view(scratch.text).substr(word.begin, word.size), scratch.spare_text);
    word.begin = begin;
    word.size = scratch.spare_text.size() - begin;
  }
  scratch.text.swap(scratch.spare_text);
}

void PreTokenizer::split(EncodeScratch& scratch) const {
  using Word = EncodeScratch::Word;
  for (const Step& step : steps_) {
    if (step.kind == Kind::byte_level && step.prefix_space) {
      rewrite(scratch, [](const Word&, std::string_view text, std::string& out) {
        if (!text.starts_with(' ')) out += ' ';
        out += text;
      });
    } else if (step.kind == Kind::metaspace) {
      rewrite(scratch, [&](const Word& word, std::string_view text, std::string& out) {
        const bool wanted =
            step.prepend == Prepend::always || (step.prepend == Prepend::first && word.at_start);
        if (wanted && !text.starts_with(' ') && !text.starts_with(step.mark)) out += step.mark;
        for (const char c : text) {
          if (c == ' ')
            out += step.mark;
          else
            out += c;
        }
      });
    }
    if (step.cuts) cut(step, scratch);
    if (step.kind == Kind::byte_level) {
      rewrite(scratch,
              [](const Word&, std::string_view text, std::string& out) { append_printable(text, out); });
    }
  }
}

}  // namespace flashrt
