// The fusion driver: tries every pattern at every line until none applies.
#include <algorithm>

#include "tape/program.h"

namespace flashrt {

void FuseContext::refresh() {
  uses.assign(program.tensors.size(), 0);
  std::vector<bool> seen(program.tensors.size(), false);
  const auto use = [&](int id) {
    ++uses[size_t(id)];
    // A view that is read counts once as a reader of what it is a view of.
    for (int base = program.info(id).base; base != id && !seen[size_t(id)]; base = program.info(id).base) {
      seen[size_t(id)] = true;
      ++uses[size_t(base)];
      id = base;
    }
  };
  for (const Line& line : program.lines) {
    if (line.op == nullptr) continue;
    for (int id : line.in) {
      if (id >= 0) use(id);
    }
  }
  for (const auto& [name, id] : program.outputs) use(id);
}

int FuseContext::only_reader(int id, size_t from) const {
  if (uses[size_t(id)] != 1) return -1;
  for (size_t i = from; i < program.lines.size(); ++i) {
    const Line& line = program.lines[i];
    if (line.op != nullptr && std::ranges::count(line.in, id) == 1) return int(i);
  }
  return -1;
}

int FuseContext::writer(int id, size_t end) const {
  for (size_t i = end; i-- > 0;) {
    const Line& line = program.lines[i];
    if (line.op != nullptr && std::ranges::count(line.out, id) != 0) return int(i);
  }
  return -1;
}

int fuse(Program& program, std::span<const Pattern> patterns,
         std::function<bool(const Program&, const Line&)> supported) {
  FuseContext context{program, {}, std::move(supported)};
  context.refresh();
  int applied = 0;
  for (Pattern pattern : patterns) {
    for (size_t i = 0; i < program.lines.size(); ++i) {
      while (program.lines[i].op != nullptr && pattern(context, i)) ++applied;
    }
  }
  std::erase_if(program.lines, [](const Line& line) { return line.op == nullptr; });
  return applied;
}

}  // namespace flashrt
