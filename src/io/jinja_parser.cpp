// Recursive descent over Jinja's grammar. Not part of the subset: include, import, extends, call, with,
// autoescape.
#include "io/jinja_parser.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "io/jinja_lexer.h"

namespace flashrt {

namespace {

constexpr size_t kMaxBytes = 256 << 10;
constexpr int kMaxDepth = 250, kMaxHeight = 512;  // a bracket takes three levels, a tag one or two

class Parser {
 public:
  Parser(std::vector<JinjaToken> tokens, const std::string& source)
      : tokens_(std::move(tokens)), source_(source) {}

  JinjaNodePtr run() {
    JinjaNodePtr node = block({});
    if (peek().type != JinjaToken::end) broken("unexpected end tag");
    return node;
  }

 private:
  using Ptr = JinjaNodePtr;
  using Token = JinjaToken;

  // Counts nesting while it lives.
  struct Level {
    explicit Level(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxDepth) parser.broken("nested too deeply");
    }
    ~Level() { --parser.depth_; }
    Parser& parser;
  };

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_op(std::string_view op, size_t ahead = 0) const {
    return peek(ahead).type == Token::op && peek(ahead).value == op;
  }
  bool is_word(std::string_view word, size_t ahead = 0) const {
    return peek(ahead).type == Token::name && peek(ahead).value == word;
  }
  bool accept_op(std::string_view op) { return is_op(op) && (take(), true); }
  bool accept_word(std::string_view word) { return is_word(word) && (take(), true); }
  void expect_op(std::string_view op) {
    if (!accept_op(op)) broken(fmt::format("expected '{}', found '{}'", op, peek().value));
  }
  void expect_word(std::string_view word) {
    if (!accept_word(word)) broken(fmt::format("expected '{}', found '{}'", word, peek().value));
  }
  std::string expect_name() {
    if (peek().type != Token::name) broken(fmt::format("expected a name, found '{}'", peek().value));
    return take().value;
  }
  void end_tag() {
    if (peek().type != Token::tag_end) broken(fmt::format("unexpected '{}' in a tag", peek().value));
    take();
  }
  [[noreturn]] void broken(std::string_view what) const {
    fail("{}: line {}: {}", source_, peek().line, what);
  }

  Ptr make(JinjaKind kind, std::string name = {}) const {
    auto node = std::make_unique<JinjaNode>();
    node->kind = kind;
    node->line = peek().line;
    node->name = std::move(name);
    return node;
  }
  void add(JinjaNode& node, Ptr child) const {
    if (child) node.height = std::max(node.height, child->height + 1);
    if (node.height > kMaxHeight) broken("an expression of more than 512 steps");
    node.children.push_back(std::move(child));
  }
  template <class... Children>
  Ptr make(JinjaKind kind, std::string name, Children&&... children) const {
    Ptr node = make(kind, std::move(name));
    (add(*node, std::forward<Children>(children)), ...);
    return node;
  }

  // --- statements ---

  // block: children. Stops before a tag whose name is one of `ends`, with its name token next.
  Ptr block(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    Ptr node = make(JinjaKind::block);
    while (peek().type != Token::end) {
      if (peek().type == Token::data) {
        Ptr text = make(JinjaKind::text);
        text->name = take().value;
        node->children.push_back(std::move(text));
      } else if (peek().type == Token::print_begin) {
        take();
        node->children.push_back(make(JinjaKind::print, "", tuple()));  // print: expression
        if (peek().type != Token::print_end) broken(fmt::format("unexpected '{}' in a tag", peek().value));
        take();
      } else {
        for (const std::string_view end : ends) {
          if (is_word(end, 1)) {
            take();
            return node;
          }
        }
        take();
        if (Ptr child = statement()) node->children.push_back(std::move(child));
      }
    }
    if (ends.size() > 0)
      broken(fmt::format("the end of the template, but '{}' is missing", *(ends.end() - 1)));
    return node;
  }

  Ptr statement() {
    const std::string word = expect_name();
    if (word == "if") return branch();
    if (word == "for") return loop();
    if (word == "set") return set();
    if (word == "macro") return macro();
    if (word == "filter") {  // filter_block: children = {filter chain over a null}; body
      Ptr node = make(JinjaKind::filter_block);
      node->children.push_back(filters(nullptr, true));
      end_tag();
      node->body = body_until("endfilter");
      return node;
    }
    if (word == "generation") {  // marks the assistant's text for training: renders as its body
      end_tag();
      return body_until("endgeneration");
    }
    if (word == "break" || word == "continue") {
      if (loops_ == 0) broken(fmt::format("{} outside of a loop", word));
      Ptr node = make(word == "break" ? JinjaKind::leave : JinjaKind::next);
      end_tag();
      return node;
    }
    broken(fmt::format("the tag '{}' is not supported", word));
  }

  Ptr body_until(std::string_view end) {
    Ptr body = block({end});
    take();
    end_tag();
    return body;
  }

  Ptr branch() {  // branch: children = {condition}; body; otherwise
    const Level level(*this);
    Ptr node = make(JinjaKind::branch, "", expression());
    end_tag();
    node->body = block({"elif", "else", "endif"});
    if (accept_word("elif")) {
      node->otherwise = branch();
      return node;
    }
    if (accept_word("else")) {
      end_tag();
      node->otherwise = block({"endif"});
    }
    expect_word("endif");
    end_tag();
    return node;
  }

  std::vector<std::string> targets() {
    std::vector<std::string> names;
    const bool parens = accept_op("(");
    do {
      if (is_op(")")) break;
      names.push_back(expect_name());
    } while (accept_op(","));
    if (parens) expect_op(")");
    return names;
  }

  Ptr loop() {  // loop: names; children = {iterable, condition or null}; body; otherwise
    Ptr node = make(JinjaKind::loop);
    node->names = targets();
    expect_word("in");
    node->children.push_back(tuple(false));
    node->children.push_back(accept_word("if") ? expression() : nullptr);
    if (is_word("recursive")) broken("recursive loops are not supported");
    end_tag();
    ++loops_;
    node->body = block({"else", "endfor"});
    --loops_;
    if (accept_word("else")) {
      end_tag();
      node->otherwise = block({"endfor"});
    }
    expect_word("endfor");
    end_tag();
    return node;
  }

  Ptr set() {  // set: names; children = {value} · set_attribute: name.names[0] · set_block: names; filters;
               // body
    if (peek().type == Token::name && is_op(".", 1)) {
      Ptr node = make(JinjaKind::set_attribute, expect_name());
      take();
      node->names.push_back(expect_name());
      expect_op("=");
      node->children.push_back(tuple());
      end_tag();
      return node;
    }
    std::vector<std::string> names = targets();
    if (accept_op("=")) {
      Ptr node = make(JinjaKind::set);
      node->names = std::move(names);
      node->children.push_back(tuple());
      end_tag();
      return node;
    }
    Ptr node = make(JinjaKind::set_block);
    node->names = std::move(names);
    if (node->names.size() != 1) broken("expected '='");
    node->children.push_back(is_op("|") ? filters(nullptr, false) : nullptr);
    end_tag();
    node->body = body_until("endset");
    return node;
  }

  Ptr macro() {  // macro: name; names = parameters; named = defaults; body
    Ptr node = make(JinjaKind::macro, expect_name());
    expect_op("(");
    while (!is_op(")")) {
      node->names.push_back(expect_name());
      if (accept_op("=")) node->named.emplace_back(node->names.back(), expression());
      if (!accept_op(",")) break;
    }
    expect_op(")");
    end_tag();
    const int outer = std::exchange(loops_, 0);
    node->body = body_until("endmacro");
    loops_ = outer;
    return node;
  }

  // --- expressions, loosest first ---

  Ptr tuple(bool conditional = true) {  // a, b, c without brackets is a list
    const auto one = [&] { return conditional ? expression() : either(); };
    Ptr first = one();
    if (!is_op(",")) return first;
    Ptr list = make(JinjaKind::list, "", std::move(first));
    while (accept_op(",")) {
      if (peek().type == Token::tag_end || peek().type == Token::print_end || is_op(")") || is_op("=")) break;
      add(*list, one());
    }
    return list;
  }

  Ptr expression() {  // conditional: children = {condition, then, else or null}
    const Level level(*this);
    Ptr value = either();
    while (accept_word("if")) {
      Ptr condition = either();
      Ptr other = accept_word("else") ? expression() : nullptr;
      value = make(JinjaKind::conditional, "", std::move(condition), std::move(value), std::move(other));
    }
    return value;
  }

  Ptr either() {  // binary: name = operator, children = {left, right}
    Ptr left = both();
    while (accept_word("or")) left = make(JinjaKind::binary, "or", std::move(left), both());
    return left;
  }
  Ptr both() {
    Ptr left = negated();
    while (accept_word("and")) left = make(JinjaKind::binary, "and", std::move(left), negated());
    return left;
  }
  Ptr negated() {  // unary: name = operator
    const Level level(*this);
    if (is_word("not") && !is_word("in", 1)) {
      take();
      return make(JinjaKind::unary, "not", negated());
    }
    return compared();
  }
  Ptr compared() {  // compare: children = operands, names = the operators between them
    Ptr first = sum(), node;
    while (true) {
      std::string op;
      for (const std::string_view known : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (is_op(known)) op = known;
      }
      if (is_word("in")) op = "in";
      if (is_word("not") && is_word("in", 1)) take(), op = "not in";
      if (op.empty()) return node ? std::move(node) : std::move(first);
      take();
      if (!node) node = make(JinjaKind::compare, "", std::move(first));
      node->names.push_back(op);
      add(*node, sum());
    }
  }
  template <class Operand>
  Ptr chain(std::initializer_list<std::string_view> ops, Operand operand) {
    Ptr left = operand();
    while (true) {
      std::string_view found;
      for (const std::string_view op : ops) {
        if (is_op(op)) found = op;
      }
      if (found.empty()) return left;
      take();
      left = make(JinjaKind::binary, std::string(found), std::move(left), operand());
    }
  }
  Ptr sum() {
    return chain({"+", "-"}, [&] { return chain({"~"}, [&] { return product(); }); });
  }
  Ptr product() {
    return chain({"*", "/", "//", "%"}, [&] { return chain({"**"}, [&] { return signed_value(true); }); });
  }
  Ptr signed_value(bool with_filters) {
    const Level level(*this);
    if (is_op("-") || is_op("+")) {
      std::string op = take().value;  // before the operand is parsed
      Ptr node = make(JinjaKind::unary, std::move(op), signed_value(false));
      return with_filters ? filters(std::move(node), false) : std::move(node);
    }
    Ptr node = postfix(primary());
    return with_filters ? filters(std::move(node), false) : std::move(node);
  }

  Ptr constant(JinjaValue value) {
    Ptr node = make(JinjaKind::constant);
    node->value = std::move(value);
    return node;
  }

  Ptr primary() {
    const Token token = take();
    switch (token.type) {
      case Token::name:
        if (token.value == "true" || token.value == "True") return constant(true);
        if (token.value == "false" || token.value == "False") return constant(false);
        if (token.value == "none" || token.value == "None") return constant(nullptr);
        return make(JinjaKind::name, token.value);
      case Token::text: {
        std::string text = token.value;
        while (peek().type == Token::text) text += take().value;
        return constant(std::move(text));
      }
      case Token::integer: {
        int64_t value = 0;
        const auto [end, error] =
            std::from_chars(token.value.data(), token.value.data() + token.value.size(), value);
        if (error != std::errc() || *end != 0) broken(fmt::format("the number {} is too large", token.value));
        return constant(value);
      }
      case Token::real: return constant(std::strtod(token.value.c_str(), nullptr));
      default: break;
    }
    if (token.value == "(") {
      if (accept_op(")")) return make(JinjaKind::list);
      Ptr inner = tuple();
      expect_op(")");
      return inner;
    }
    if (token.value == "[") {  // list: children
      Ptr node = make(JinjaKind::list);
      while (!is_op("]")) {
        add(*node, expression());
        if (!accept_op(",")) break;
      }
      expect_op("]");
      return node;
    }
    if (token.value == "{") {  // dict: children = key, value, key, value …
      Ptr node = make(JinjaKind::dict);
      while (!is_op("}")) {
        node->children.push_back(expression());
        expect_op(":");
        add(*node, expression());
        if (!accept_op(",")) break;
      }
      expect_op("}");
      return node;
    }
    broken(fmt::format("expected an expression, found '{}'",
                       token.value.empty() ? "the end of the tag" : token.value));
  }

  Ptr postfix(Ptr node) {
    int links = 0;
    while (true) {
      if (++links > kMaxDepth) broken("a chain of too many accesses");
      if (accept_op(".")) {  // attribute: name; children = {object}
        if (peek().type == Token::integer) {
          node = make(JinjaKind::item, "", std::move(node),
                      constant(int64_t(std::stoi(take().value.substr(0, 6)))));
          continue;
        }
        const std::string name = expect_name();
        if (name.starts_with('_')) broken(fmt::format("access to '{}' is refused", name));
        node = make(JinjaKind::attribute, name, std::move(node));
      } else if (accept_op("[")) {
        node = subscript(std::move(node));
      } else if (is_op("(")) {  // call: children = {callee, arguments}; named
        node = make(JinjaKind::call, "", std::move(node));
        arguments(*node);
      } else {
        return node;
      }
    }
  }

  Ptr subscript(
      Ptr object) {  // item: {object, index} · slice: {object, start, stop, step}, null where left out
    Ptr start = is_op(":") ? nullptr : expression();
    if (!is_op(":")) {
      expect_op("]");
      return make(JinjaKind::item, "", std::move(object), std::move(start));
    }
    Ptr parts[2];
    for (Ptr& part : parts) {
      if (accept_op(":") && !is_op(":") && !is_op("]")) part = expression();
    }
    expect_op("]");
    return make(JinjaKind::slice, "", std::move(object), std::move(start), std::move(parts[0]),
                std::move(parts[1]));
  }

  void arguments(JinjaNode& node) {
    expect_op("(");
    while (!is_op(")")) {
      if (peek().type == Token::name && is_op("=", 1)) {
        std::string name = take().value;
        take();
        node.named.emplace_back(std::move(name), expression());
      } else {
        add(node, expression());
      }
      if (!accept_op(",")) break;
    }
    expect_op(")");
  }

  // filter, test: name; children = {object, arguments}; named. `bare`: the first filter comes without its
  // bar.
  Ptr filters(Ptr node, bool bare) {
    int links = 0;
    while (true) {
      if (++links > kMaxDepth) broken("a chain of too many filters");
      if (bare || accept_op("|")) {
        bare = false;
        node = make(JinjaKind::filter, expect_name(), std::move(node));
        if (is_op("(")) arguments(*node);
      } else if (accept_word("is")) {
        const bool negated = accept_word("not");
        node = make(JinjaKind::test, expect_name(), std::move(node));
        const Token& next = peek();
        const bool stops = is_word("else") || is_word("or") || is_word("and") || is_word("if") ||
                           is_word("is") || is_word("in") || is_word("not");
        if (is_op("("))
          arguments(*node);
        else if ((next.type == Token::name && !stops) || next.type == Token::text ||
                 next.type == Token::integer || next.type == Token::real || is_op("[") || is_op("{")) {
          Ptr argument = postfix(primary());  // before the node moves
          add(*node, std::move(argument));
        }
        if (negated) node = make(JinjaKind::unary, "not", std::move(node));
      } else if (node && is_op("(")) {
        node = postfix(std::move(node));
      } else {
        return node;
      }
    }
  }

  std::vector<JinjaToken> tokens_;
  const std::string& source_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
};

}  // namespace

JinjaNodePtr parse_jinja(std::string_view text, const std::string& source) {
  if (text.size() > kMaxBytes) fail("{}: a template of {} bytes, limit {}", source, text.size(), kMaxBytes);
  return Parser(lex_jinja(text, source), source).run();
}

}  // namespace flashrt
