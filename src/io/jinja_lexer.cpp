// The lexer: text between tags, then the tokens of each tag.
#include "io/jinja_lexer.h"

#include <algorithm>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

bool is_space(char c) { return c == ' ' || (c >= 9 && c <= 13); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_char(char c) {
  return c == '_' || is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || uint8_t(c) >= 0x80;
}

class Lexer {
 public:
  Lexer(std::string text, const std::string& source) : text_(std::move(text)), source_(source) {}

  std::vector<JinjaToken> run() {
    while (at_ < text_.size()) {
      const size_t tag = next_tag(at_);
      std::string data = text_.substr(at_, tag - at_);
      const char kind = tag < text_.size() ? text_[tag + 1] : ' ';
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : ' ';
      if (tag < text_.size()) trim_before(data, kind, sign);
      if (!data.empty()) add(JinjaToken::data, data);
      move_to(tag);
      if (tag == text_.size()) break;
      move_to(tag + (sign == '-' || (sign == '+' && kind != '{') ? 3 : 2));
      if (kind == '#')
        comment();
      else
        tag_body(kind);
    }
    add(JinjaToken::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void broken(std::string_view what) const { fail("{}: line {}: {}", source_, line_, what); }
  void add(JinjaToken::Type type, std::string_view value) {
    tokens_.push_back({type, std::string(value), line_});
  }
  void move_to(size_t at) {
    line_ += int(std::count(text_.begin() + long(at_), text_.begin() + long(at), '\n'));
    at_ = at;
  }
  bool looking_at(std::string_view what) const {
    return std::string_view(text_).substr(at_).starts_with(what);
  }
  size_t next_tag(size_t at) const {
    for (; (at = text_.find('{', at)) != std::string::npos && at + 1 < text_.size(); ++at) {
      if (text_[at + 1] == '{' || text_[at + 1] == '%' || text_[at + 1] == '#') return at;
    }
    return text_.size();
  }

  void trim_before(std::string& data, char kind, char sign) const {
    if (sign == '-') {
      while (!data.empty() && is_space(data.back())) data.pop_back();
    } else if (kind != '{' &&
               sign != '+') {  // lstrip_blocks: a tag alone on its line takes its indentation with it
      const size_t line = data.rfind('\n') + 1;
      if ((line > 0 || line_starting_) && std::all_of(data.begin() + long(line), data.end(), is_space)) {
        data.resize(line);
      }
    }
  }
  // After a tag: `-` eats all white space, trim_blocks one line end.
  void trim_after(bool minus, bool one_line) {
    size_t end = at_;
    if (minus) {
      while (end < text_.size() && is_space(text_[end])) ++end;
    } else if (one_line && end < text_.size() && text_[end] == '\n') {
      ++end;
    }
    line_starting_ = end > at_ && text_[end - 1] == '\n';
    move_to(end);
  }

  void comment() {
    const size_t end = text_.find("#}", at_);
    if (end == std::string::npos) broken("a comment without an end");
    const char before = text_[end - 1];
    move_to(end + 2);
    trim_after(before == '-', before != '+');
  }

  void tag_body(char kind) {
    const bool print = kind == '{';
    const std::string close = print ? "}}" : "%}";
    add(print ? JinjaToken::print_begin : JinjaToken::tag_begin, "");
    const size_t first = tokens_.size();
    std::string open;  // brackets waiting for their end
    while (true) {
      while (at_ < text_.size() && is_space(text_[at_])) move_to(at_ + 1);
      if (at_ == text_.size()) broken("a tag without an end");
      const char sign = text_[at_];
      const bool signed_end =
          (sign == '-' || sign == '+') && std::string_view(text_).substr(at_ + 1).starts_with(close);
      if (open.empty() && (signed_end || looking_at(close))) {
        add(print ? JinjaToken::print_end : JinjaToken::tag_end, "");
        move_to(at_ + (signed_end ? 3 : 2));
        trim_after(signed_end && sign == '-', !print && !signed_end);
        break;
      }
      token(open);
    }
    if (!print && tokens_.size() == first + 2 && tokens_[first].value == "raw") raw();
  }

  void raw() {
    tokens_.resize(tokens_.size() - 3);
    const size_t begin = at_;
    for (size_t tag = begin; (tag = text_.find("{%", tag)) != std::string::npos; tag += 2) {
      size_t word = tag + 2;
      if (word < text_.size() && (text_[word] == '-' || text_[word] == '+')) ++word;
      while (word < text_.size() && is_space(text_[word])) ++word;
      if (!std::string_view(text_).substr(word).starts_with("endraw")) continue;
      std::string data = text_.substr(begin, tag - begin);
      trim_before(data, '%', text_[tag + 2]);
      const size_t end = text_.find("%}", word);
      if (end == std::string::npos) break;
      if (!data.empty()) add(JinjaToken::data, data);
      move_to(end + 2);
      trim_after(text_[end - 1] == '-', text_[end - 1] != '+');
      return;
    }
    broken("raw without endraw");
  }

  void token(std::string& open) {
    const char c = text_[at_];
    size_t end = at_;
    if (c == '"' || c == '\'') return string(c);
    if (is_digit(c)) {
      const auto digits = [&] {
        while (end < text_.size() && (is_digit(text_[end]) || text_[end] == '_')) ++end;
      };
      digits();
      bool real = end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1]);
      if (real) ++end, digits();
      if (end < text_.size() && (text_[end] | 0x20) == 'e') {
        size_t exponent = end + 1;
        if (exponent < text_.size() && (text_[exponent] == '-' || text_[exponent] == '+')) ++exponent;
        if (exponent < text_.size() && is_digit(text_[exponent])) real = true, end = exponent, digits();
      }
      std::string number = text_.substr(at_, end - at_);
      std::erase(number, '_');
      add(real ? JinjaToken::real : JinjaToken::integer, number);
    } else if (is_name_char(c)) {
      while (end < text_.size() && is_name_char(text_[end])) ++end;
      add(JinjaToken::name, std::string_view(text_).substr(at_, end - at_));
    } else {
      end += 1;
      for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
        if (looking_at(two)) end = at_ + 2;
      }
      const std::string value = text_.substr(at_, end - at_);
      if (value.size() == 1 && std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) {
        broken(fmt::format("an unexpected character '{}'", value));
      }
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : char(c + 2);
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != c) broken(fmt::format("an unexpected '{}'", value));
        open.pop_back();
      }
      add(JinjaToken::op, value);
    }
    move_to(end);
  }

  void string(char quote) {
    std::string value;
    size_t i = at_ + 1;
    for (; i < text_.size() && text_[i] != quote; ++i) {
      if (text_[i] != '\\' || i + 1 == text_.size()) {
        value += text_[i];
        continue;
      }
      const char e = text_[++i];
      const size_t digits = e == 'x' ? 2 : e == 'u' ? 4 : e == 'U' ? 8 : 0;
      if (digits > 0) {
        uint32_t code = 0;
        for (size_t k = 0; k < digits; ++k) {
          const char h = i + 1 < text_.size() ? text_[++i] : ' ';
          const char lower = char(h | 0x20);
          if (!is_digit(h) && (lower < 'a' || lower > 'f')) broken("an incomplete escape in a string");
          code = code * 16 + uint32_t(is_digit(h) ? h - '0' : lower - 'a' + 10);
        }
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) broken("an escape that is no character");
        append_utf8(value, code);
      } else if (const size_t known = std::string_view("nrtbfav0\\'\"").find(e);
                 known != std::string_view::npos) {
        value += "\n\r\t\b\f\a\v\0\\'\""[known];
      } else if (e != '\n') {
        value += '\\', value += e;
      }
    }
    if (i == text_.size()) broken("a string without an end");
    add(JinjaToken::text, value);
    move_to(i + 1);
  }

  std::string text_;
  const std::string& source_;
  std::vector<JinjaToken> tokens_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // whether the text at hand begins a line
};

}  // namespace

std::vector<JinjaToken> lex_jinja(std::string_view text, const std::string& source) {
  std::string clean(text);
  replace_all(clean, "\r\n", "\n");
  replace_all(clean, "\r", "\n");
  if (clean.ends_with('\n')) clean.pop_back();
  return Lexer(std::move(clean), source).run();
}

}  // namespace flashrt
