// Constant folding and dead code.
#include <algorithm>

#include "base/error.h"
#include "tape/reference.h"

namespace flashrt {

namespace {

bool is_known(const Program& program, int id) {
  const Kind kind = program.info(program.root(id)).kind;
  return kind == Kind::weight || kind == Kind::constant;
}

bool can_fold(const Program& program, const Line& line) {
  const auto known = [&](int id) { return id < 0 || is_known(program, id); };
  const auto fresh = [&](int id) { return program.root(id) == id; };
  return std::ranges::all_of(line.in, known) && std::ranges::all_of(line.out, fresh) && !line.out.empty();
}

}  // namespace

int fold(Program& program) {
  std::vector<void*> data(program.tensors.size(), nullptr);
  std::vector<std::shared_ptr<std::vector<float>>> held(program.tensors.size());
  std::vector<Line> kept;
  std::vector<float> scratch;
  int folded = 0;
  // Address of a known tensor as f32 values; weights are converted when first read.
  const auto resolve = [&](const Line& line, size_t i) {
    const int id = line.in[i], root = program.root(id);
    const TensorInfo& base = program.info(root);
    if (base.kind == Kind::weight && line.streams(i)) return;
    if (!held[size_t(root)]) {
      held[size_t(root)] = base.kind == Kind::weight
                               ? std::make_shared<std::vector<float>>(weight_values(*base.weight))
                               : std::make_shared<std::vector<float>>(*base.values);
    }
    data[size_t(id)] =
        held[size_t(root)]->data() + program.root_byte_offset(id) / int64_t(size_of(base.dtype));
  };
  for (Line& line : program.lines) {
    if (!can_fold(program, line)) {
      kept.push_back(std::move(line));
      continue;
    }
    for (size_t i = 0; i < line.in.size(); ++i) {
      if (line.in[i] >= 0) resolve(line, i);
    }
    std::vector<std::vector<std::byte>> results;
    for (int id : line.out) {
      results.emplace_back(program.info(id).bytes());
      data[size_t(id)] = results.back().data();
    }
    scratch.resize(std::max(scratch.size(), scratch_floats(program, line)));
    run_reference_line(program, line, data, scratch.data());
    for (size_t j = 0; j < line.out.size(); ++j) {
      TensorInfo& info = program.tensors[size_t(line.out[j])];
      auto values = std::make_shared<std::vector<float>>(size_t(info.shape.size()));
      for (size_t e = 0; e < values->size(); ++e) (*values)[e] = load_float(results[j].data(), info.dtype, e);
      info.kind = Kind::constant;
      info.name = fmt::format("folded {}", to_string(line.at));
      info.values = std::move(values);
    }
    ++folded;
  }
  program.lines = std::move(kept);
  return folded;
}

int drop_dead(Program& program) {
  std::vector<bool> live(program.tensors.size(), false);
  const auto mark = [&](int id) {
    while (id >= 0 && !live[size_t(id)]) {
      live[size_t(id)] = true;
      const int base = program.info(id).base;
      id = base == id ? -1 : base;
    }
  };
  for (const auto& [name, id] : program.outputs) mark(id);
  std::vector<Line> kept;
  const size_t before = program.lines.size();
  for (size_t i = before; i-- > 0;) {
    Line& line = program.lines[i];
    const bool needed = std::ranges::any_of(line.out, [&](int id) {
      return live[size_t(id)] || program.info(program.root(id)).kind == Kind::state;
    });
    if (!needed) continue;
    for (int id : line.in) mark(id);
    kept.push_back(std::move(line));
  }
  std::ranges::reverse(kept);
  program.lines = std::move(kept);
  return int(before - program.lines.size());
}

}  // namespace flashrt
