// Tree-walking interpreter with Jinja's scopes: loops and macros have their own, conditions do not.
#include "io/jinja_interpreter.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <optional>

#include "base/error.h"
#include "io/jinja_builtins.h"

namespace flashrt {

namespace {

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, JinjaValue>> values;

  const JinjaValue* find(std::string_view name) const {
    for (const auto& [key, value] : values) {
      if (key == name) return &value;
    }
    return parent ? parent->find(name) : nullptr;
  }
  void set(const std::string& name, JinjaValue value) {
    for (auto& [key, old] : values) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    values.emplace_back(name, std::move(value));
  }
};

}  // namespace

struct JinjaMacro {
  const JinjaNode* node = nullptr;  // null for a built-in function
  std::string name;
  std::weak_ptr<Scope> scope;  // where it was defined
};

struct JinjaLoop {
  std::shared_ptr<const std::vector<JinjaValue>> items;
  size_t index;
  int depth;
};

namespace {

constexpr int kMaxDepth = 1500, kMaxMacroDepth = 64;
constexpr int64_t kMaxRange = 10'000;
constexpr std::string_view kFunctions[] = {"range", "namespace", "dict", "raise_exception", "strftime_now"};

class Interpreter {
 public:
  Interpreter(int64_t now, const std::string& source) : now_(now), source_(source) {}

  std::string run(const JinjaNode& root, const JinjaValue& globals) {
    scope_ = std::make_shared<Scope>();
    for (const std::string_view name : kFunctions) {
      scope_->values.emplace_back(
          name, std::make_shared<const JinjaMacro>(JinjaMacro{nullptr, std::string(name), {}}));
    }
    for (const auto& [name, value] : *globals.entries()) scope_->set(name, value);
    scope_ = std::make_shared<Scope>(Scope{scope_, {}});
    reset_comparisons();
    try {
      execute(root);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::input) throw;
      fail("{}: line {}: {}", source_, line_, error.what());
    }
    return std::move(out_);
  }

 private:
  enum class Flow { normal, leave, next };

  struct Level {
    explicit Level(Interpreter& i) : interpreter(i) {
      if (++interpreter.depth_ > kMaxDepth) fail("more than {} nested steps", kMaxDepth);
    }
    ~Level() { --interpreter.depth_; }
    Interpreter& interpreter;
  };
  // Enters a scope and leaves it again.
  struct Inside {
    Inside(Interpreter& i, std::shared_ptr<Scope> parent) : interpreter(i), outer(i.scope_) {
      interpreter.scope_ = std::make_shared<Scope>(Scope{std::move(parent), {}});
    }
    ~Inside() { interpreter.scope_ = outer; }
    Interpreter& interpreter;
    std::shared_ptr<Scope> outer;
  };

  void write(std::string_view text) {
    budget_.wrote(text.size());
    out_ += text;
  }
  // What a body writes, as a text.
  template <class F>
  std::string captured(F&& f) {
    std::string outer = std::exchange(out_, {});
    f();
    return std::exchange(out_, std::move(outer));
  }

  Flow execute(const JinjaNode& node) {
    const Level level(*this);
    line_ = node.line;
    budget_.step();
    switch (node.kind) {
      case JinjaKind::block:
        for (const JinjaNodePtr& child : node.children) {
          if (const Flow flow = execute(*child); flow != Flow::normal) return flow;
        }
        break;
      case JinjaKind::text: write(node.name); break;
      case JinjaKind::print: write(to_text(evaluate(*node.children[0]))); break;
      case JinjaKind::branch:
        if (is_true(evaluate(*node.children[0]))) return execute(*node.body);
        if (node.otherwise) return execute(*node.otherwise);
        break;
      case JinjaKind::loop: return loop(node);
      case JinjaKind::set: assign(node.names, evaluate(*node.children[0])); break;
      case JinjaKind::set_attribute: set_attribute(node); break;
      case JinjaKind::set_block: {
        JinjaValue text = captured([&] {
          const Inside inside(*this, scope_);
          execute(*node.body);
        });
        scope_->set(node.names[0], node.children[0] ? filtered(*node.children[0], text) : text);
        break;
      }
      case JinjaKind::filter_block: {
        const JinjaValue text = captured([&] {
          const Inside inside(*this, scope_);
          execute(*node.body);
        });
        write(to_text(filtered(*node.children[0], text)));
        break;
      }
      case JinjaKind::macro:
        scope_->set(node.name, std::make_shared<const JinjaMacro>(JinjaMacro{&node, node.name, scope_}));
        break;
      case JinjaKind::leave: return Flow::leave;
      case JinjaKind::next: return Flow::next;
      default: check(false, "an expression where a statement belongs");
    }
    return Flow::normal;
  }

  void assign(const std::vector<std::string>& names, const JinjaValue& value) {
    if (names.size() == 1) return scope_->set(names[0], value);
    const auto items = jinja_items(value);
    if (items.size() != names.size())
      fail("cannot unpack {} values into {} names", items.size(), names.size());
    for (size_t i = 0; i < names.size(); ++i) scope_->set(names[i], items[i]);
  }

  void set_attribute(const JinjaNode& node) {
    const JinjaValue* object = scope_->find(node.name);
    if (object == nullptr || !object->is_namespace)
      fail("'{}' is no namespace whose attributes can be set", node.name);
    JinjaValue value = evaluate(*node.children[0]);
    JinjaValue::list({value});  // refuses what must not be stored
    auto& entries = **object->get<std::shared_ptr<JinjaValue::Dict>>();
    for (auto& [key, old] : entries) {
      if (key == node.names[0]) {
        old = std::move(value);
        return;
      }
    }
    entries.emplace_back(node.names[0], std::move(value));
  }

  Flow loop(const JinjaNode& node) {
    auto items = std::make_shared<std::vector<JinjaValue>>(jinja_items(evaluate(*node.children[0])));
    budget_.step(items->size() * sizeof(JinjaValue));
    if (node.children[1]) {
      std::vector<JinjaValue> kept;
      for (const JinjaValue& item : *items) {
        const Inside inside(*this, scope_);
        assign(node.names, item);
        if (is_true(evaluate(*node.children[1]))) kept.push_back(item);
      }
      *items = std::move(kept);
    }
    if (items->empty() && node.otherwise) {
      const Inside inside(*this, scope_);
      return execute(*node.otherwise);
    }
    ++loop_depth_;
    for (size_t i = 0; i < items->size(); ++i) {
      budget_.step();
      const Inside inside(*this, scope_);
      scope_->set("loop", std::make_shared<const JinjaLoop>(JinjaLoop{items, i, loop_depth_}));
      assign(node.names, (*items)[i]);
      if (execute(*node.body) == Flow::leave) break;
    }
    --loop_depth_;
    return Flow::normal;
  }

  JinjaValue evaluate(const JinjaNode& node) {
    const Level level(*this);
    budget_.step();
    line_ = node.line;
    switch (node.kind) {
      case JinjaKind::constant: return node.value;
      case JinjaKind::name: {
        const JinjaValue* value = scope_->find(node.name);
        if (value == nullptr) return JinjaUndefined{node.name};
        if (value->text()) budget_.made(*value);
        return *value;
      }
      case JinjaKind::list: {
        JinjaValue::List items;
        for (const JinjaNodePtr& child : node.children) items.push_back(evaluate(*child));
        return JinjaValue::list(std::move(items));
      }
      case JinjaKind::dict: return dict(node);
      case JinjaKind::attribute: return attribute(evaluate(*node.children[0]), node.name);
      case JinjaKind::item: {
        const JinjaValue object = evaluate(*node.children[0]);
        return made(jinja_item(object, evaluate(*node.children[1])));
      }
      case JinjaKind::slice: {
        const auto part = [&](size_t i) {
          return node.children[i] ? evaluate(*node.children[i]) : JinjaValue();
        };
        const JinjaValue object = part(0), start = part(1), stop = part(2);
        return made(jinja_slice(object, start, stop, part(3)));
      }
      case JinjaKind::call: return call(node);
      case JinjaKind::filter: return filtered(node, {});
      case JinjaKind::test: {
        const JinjaValue value = evaluate(*node.children[0]);
        return jinja_test(node.name, value, arguments(node));
      }
      case JinjaKind::unary: return unary(node.name, evaluate(*node.children[0]));
      case JinjaKind::binary: return binary(node);
      case JinjaKind::compare: return compare(node);
      case JinjaKind::conditional:
        if (is_true(evaluate(*node.children[0]))) return evaluate(*node.children[1]);
        return node.children[2] ? evaluate(*node.children[2])
                                : JinjaValue(JinjaUndefined{"the value of an if without else"});
      default: check(false, "a statement where an expression belongs");
    }
    return {};
  }

  JinjaValue made(JinjaValue value) {
    budget_.made(value);
    return value;
  }

  JinjaValue dict(const JinjaNode& node) {
    JinjaValue result = JinjaValue::dict();
    JinjaValue::Dict entries;
    for (size_t i = 0; i < node.children.size(); i += 2) {
      const JinjaValue key = evaluate(*node.children[i]);
      JinjaValue value = evaluate(*node.children[i + 1]);
      if (key.text() == nullptr) fail("a dict's keys must be text, found a {}", kind_of(key));
      std::erase_if(entries, [&](const auto& entry) { return entry.first == *key.text(); });
      entries.emplace_back(*key.text(), std::move(value));
    }
    return JinjaValue::dict(std::move(entries));
  }

  JinjaArguments arguments(const JinjaNode& node) {
    JinjaArguments args;
    for (size_t i = 1; i < node.children.size(); ++i) args.list.push_back(evaluate(*node.children[i]));
    for (const auto& [name, child] : node.named) args.named.emplace_back(name, evaluate(*child));
    return args;
  }

  // A chain of filters; where it starts with none, `base` takes the place of the object.
  JinjaValue filtered(const JinjaNode& node, const JinjaValue& base) {
    if (node.kind != JinjaKind::filter) return evaluate(node);
    const JinjaNode* object = node.children[0].get();
    const JinjaValue value = object == nullptr                   ? base
                             : object->kind == JinjaKind::filter ? filtered(*object, base)
                                                                 : evaluate(*object);
    return made(jinja_filter(budget_, node.name, value, arguments(node)));
  }

  JinjaValue attribute(const JinjaValue& object, const std::string& name) {
    const auto* loop = object.get<std::shared_ptr<const JinjaLoop>>();
    if (loop == nullptr) return made(jinja_item(object, name));
    const auto& items = *(*loop)->items;
    const size_t i = (*loop)->index, count = items.size();
    if (name == "index") return int64_t(i + 1);
    if (name == "index0") return int64_t(i);
    if (name == "revindex") return int64_t(count - i);
    if (name == "revindex0") return int64_t(count - i - 1);
    if (name == "first") return i == 0;
    if (name == "last") return i + 1 == count;
    if (name == "length") return int64_t(count);
    if (name == "depth") return int64_t((*loop)->depth);
    if (name == "depth0") return int64_t((*loop)->depth - 1);
    if (name == "previtem")
      return i > 0 ? items[i - 1] : JinjaValue(JinjaUndefined{"there is no previous item"});
    if (name == "nextitem")
      return i + 1 < count ? items[i + 1] : JinjaValue(JinjaUndefined{"there is no next item"});
    return JinjaUndefined{name};
  }

  JinjaValue call(const JinjaNode& node) {
    const JinjaNode& callee = *node.children[0];
    if (callee.kind == JinjaKind::attribute) {
      const JinjaValue object = evaluate(*callee.children[0]);
      if (const auto* loop = object.get<std::shared_ptr<const JinjaLoop>>(); loop && callee.name == "cycle") {
        const JinjaArguments args = arguments(node);
        if (args.list.empty()) fail("loop.cycle needs values");
        return args.list[(*loop)->index % args.list.size()];
      }
      if (const auto* u = object.get<JinjaUndefined>()) fail("'{}' is undefined", u->name);
      return made(jinja_method(budget_, object, callee.name, arguments(node)));
    }
    const JinjaValue function = evaluate(callee);
    const auto* macro = function.get<std::shared_ptr<const JinjaMacro>>();
    if (macro == nullptr) {
      if (const auto* u = function.get<JinjaUndefined>()) fail("'{}' is undefined", u->name);
      fail("a {} cannot be called", kind_of(function));
    }
    const JinjaArguments args = arguments(node);
    return (*macro)->node ? expand(**macro, args) : made(built_in((*macro)->name, args));
  }

  JinjaValue expand(const JinjaMacro& macro, const JinjaArguments& args) {
    const JinjaNode& node = *macro.node;
    const std::shared_ptr<Scope> parent = macro.scope.lock();
    if (parent == nullptr) fail("the macro '{}' is used outside of where it was defined", macro.name);
    if (args.list.size() > node.names.size())
      fail("the macro '{}' takes {} arguments", macro.name, node.names.size());
    if (++macro_depth_ > kMaxMacroDepth) fail("macros nested deeper than {}", kMaxMacroDepth);
    for (const auto& [name, value] : args.named) {
      if (std::find(node.names.begin(), node.names.end(), name) == node.names.end()) {
        fail("the macro '{}' has no parameter '{}'", macro.name, name);
      }
    }
    std::string text = captured([&] {
      const Inside inside(*this, parent);
      for (size_t i = 0; i < node.names.size(); ++i) {
        JinjaValue value = JinjaUndefined{node.names[i]};
        if (const JinjaValue* given = args.find(i, node.names[i])) {
          value = *given;
        } else {
          for (const auto& [name, fallback] : node.named) {
            if (name == node.names[i]) value = evaluate(*fallback);
          }
        }
        scope_->set(node.names[i], std::move(value));
      }
      execute(*node.body);
    });
    --macro_depth_;
    return made(std::move(text));
  }

  JinjaValue built_in(const std::string& name, const JinjaArguments& args) {
    if (name == "namespace" || name == "dict") {
      JinjaValue::Dict entries(args.named.begin(), args.named.end());
      if (!args.list.empty() && args.list[0].entries()) {
        entries = *args.list[0].entries();
        for (const auto& entry : args.named) entries.push_back(entry);
      }
      JinjaValue result = JinjaValue::dict(std::move(entries));
      result.is_namespace = name == "namespace";
      return result;
    }
    if (name == "raise_exception") {
      fail("the template refuses this conversation: {}", args.list.empty() ? "" : to_text(args.list[0]));
    }
    if (name == "strftime_now") {
      const std::string* format = args.list.empty() ? nullptr : args.list[0].text();
      if (format == nullptr || format->size() > 256) fail("strftime_now takes a format");
      const auto time = time_t(now_);
      std::tm local{};
      localtime_r(&time, &local);
      char text[1024];
      return std::string(text, std::strftime(text, sizeof text, format->c_str(), &local));
    }
    int64_t bounds[3] = {0, 0, 1};  // range(stop), range(start, stop[, step])
    for (size_t i = 0; i < args.list.size() && i < 3; ++i) {
      const int64_t* v = args.list[i].get<int64_t>();
      if (v == nullptr || std::abs(*v) > 1'000'000'000) fail("range takes integers");
      bounds[i] = *v;
    }
    if (args.list.size() == 1) bounds[1] = std::exchange(bounds[0], 0);
    if (args.list.empty() || bounds[2] == 0) fail("range takes one to three integers, and no step of zero");
    JinjaValue::List items;
    for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
      if (int64_t(items.size()) == kMaxRange) fail("a range of more than {} numbers", kMaxRange);
      items.push_back(i);
    }
    return JinjaValue::list(std::move(items));
  }

  static JinjaValue unary(const std::string& op, const JinjaValue& v) {
    if (op == "not") return !is_true(v);
    if (const auto* u = v.get<JinjaUndefined>()) fail("'{}' is undefined", u->name);
    if (const int64_t* i = v.get<int64_t>(); i && *i != INT64_MIN) return op == "-" ? -*i : *i;
    return op == "-" ? -v.number() : v.number();
  }

  JinjaValue compare(const JinjaNode& node) {
    JinjaValue left = evaluate(*node.children[0]);
    for (size_t i = 0; i < node.names.size(); ++i) {
      JinjaValue right = evaluate(*node.children[i + 1]);
      const std::string& op = node.names[i];
      const bool ok = op == "=="       ? is_equal(left, right)
                      : op == "!="     ? !is_equal(left, right)
                      : op == "in"     ? jinja_contains(right, left)
                      : op == "not in" ? !jinja_contains(right, left)
                      : op == "<"      ? is_less(left, right)
                      : op == ">"      ? is_less(right, left)
                      : op == "<="     ? !is_less(right, left)
                                       : !is_less(left, right);
      if (!ok) return false;
      left = std::move(right);
    }
    return true;
  }

  JinjaValue binary(const JinjaNode& node) {
    const std::string& op = node.name;
    JinjaValue a = evaluate(*node.children[0]);
    if (op == "and") return is_true(a) ? evaluate(*node.children[1]) : a;
    if (op == "or") return is_true(a) ? a : evaluate(*node.children[1]);
    const JinjaValue b = evaluate(*node.children[1]);
    if (op == "~") return made(to_text(a) + to_text(b));
    for (const JinjaValue* v : {static_cast<const JinjaValue*>(&a), &b}) {
      if (const auto* u = v->get<JinjaUndefined>()) fail("'{}' is undefined", u->name);
    }
    if (op == "+" && a.text() && b.text()) return made(*a.text() + *b.text());
    if (op == "+" && a.items() && b.items()) {
      JinjaValue::List items = *a.items();
      items.insert(items.end(), b.items()->begin(), b.items()->end());
      return made(JinjaValue::list(std::move(items)));
    }
    if (op == "*" && (a.text() || b.text())) return repeated(a, b);
    if (op == "%" && a.text()) fail("formatting with % is not supported");
    if (!a.is_number() || !b.is_number()) fail("cannot compute {} {} {}", kind_of(a), op, kind_of(b));
    return arithmetic(op, a, b);
  }

  JinjaValue repeated(const JinjaValue& a, const JinjaValue& b) {
    const std::string& text = a.text() ? *a.text() : *b.text();
    const JinjaValue& count = a.text() ? b : a;
    const int64_t* n = count.get<int64_t>();
    if (n == nullptr) fail("cannot compute {} * {}", kind_of(a), kind_of(b));
    if (*n > 0 && text.size() > size_t(4 << 20) / size_t(*n)) fail("a text of more than 4194304 bytes");
    std::string out;
    for (int64_t i = 0; !text.empty() && i < *n; ++i) out += text;
    return made(std::move(out));
  }

  static JinjaValue arithmetic(const std::string& op, const JinjaValue& a, const JinjaValue& b) {
    const auto whole = [](const JinjaValue& v) -> std::optional<int64_t> {
      if (const bool* t = v.get<bool>()) return *t;
      if (const int64_t* i = v.get<int64_t>()) return *i;
      return std::nullopt;
    };
    const auto i = whole(a), j = whole(b);
    const double x = a.number(), y = b.number();
    if ((op == "/" || op == "//" || op == "%") && y == 0) fail("division by zero");
    int64_t result = 0;
    if (i && j && op != "/") {
      bool overflow = false;
      if (op == "+")
        overflow = __builtin_add_overflow(*i, *j, &result);
      else if (op == "-")
        overflow = __builtin_sub_overflow(*i, *j, &result);
      else if (op == "*")
        overflow = __builtin_mul_overflow(*i, *j, &result);
      else if (op == "**" && *j < 0)
        return std::pow(x, y);
      else if (op == "**")
        overflow = !(std::abs(std::pow(x, y)) < 9e15), result = overflow ? 0 : int64_t(std::pow(x, y));
      else if (*j == -1)
        overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, *i, &result);
      else {
        const int64_t quotient = *i / *j, rest = *i % *j;  // Python rounds down
        const bool down = rest != 0 && (rest < 0) != (*j < 0);
        result = op == "//" ? quotient - down : rest + (down ? *j : 0);
      }
      if (overflow) fail("an integer outside of 64 bits");
      return result;
    }
    if (op == "+") return x + y;
    if (op == "-") return x - y;
    if (op == "*") return x * y;
    if (op == "/") return x / y;
    if (op == "//") return std::floor(x / y);
    if (op == "%") return x - y * std::floor(x / y);
    return std::pow(x, y);
  }

  int64_t now_;
  const std::string& source_;
  std::shared_ptr<Scope> scope_;
  JinjaBudget budget_;
  std::string out_;
  int depth_ = 0, macro_depth_ = 0, loop_depth_ = 0, line_ = 0;
};

}  // namespace

std::string render_jinja(const JinjaNode& root, const JinjaValue& globals, int64_t now,
                         const std::string& source) {
  check(globals.entries() != nullptr, "template globals are not a dict");
  return Interpreter(now, source).run(root, globals);
}

}  // namespace flashrt
