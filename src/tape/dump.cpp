// The tape as text.
#include "base/error.h"
#include "tape/program.h"

namespace flashrt {

namespace {

std::string operand(const Program& program, int id) {
  if (id < 0) return "-";
  const TensorInfo& base = program.info(program.root(id));
  const bool named = base.kind != Kind::temp && !base.name.empty();
  std::string text = named ? base.name : fmt::format("%{}", id);
  // A view: its elements within the root, which may have been reshaped.
  const int64_t begin = program.root_byte_offset(id) / int64_t(size_of(base.dtype));
  const int64_t size = program.info(id).shape.size();
  if (size != base.shape.size()) text += fmt::format("[{}+{}]", begin, size);
  return text;
}

}  // namespace

std::string dump_tape(const Program& program) {
  std::string text;
  int stage = -1;
  for (const Line& line : program.lines) {
    if (line.stage != stage) text += fmt::format("{}:\n", program.stages[size_t(stage = line.stage)]);
    std::string results, operands;
    for (int id : line.out) {
      const TensorInfo& t = program.info(id);
      results += fmt::format("{}{} {}[{}, {}]", results.empty() ? "" : ", ", operand(program, id),
                             name_of(t.dtype), t.shape.rows, t.shape.cols);
    }
    for (int id : line.in) operands += (operands.empty() ? "" : ", ") + operand(program, id);
    const std::string attrs = line.op->describe != nullptr ? line.op->describe(line) : "";
    text += fmt::format("  {} = {}({}){}  {}\n", results, line.op->name, operands,
                        attrs.empty() ? "" : " {" + attrs + "}", to_string(line.at));
  }
  return text;
}

}  // namespace flashrt
