// Definition of unpack, and the pass that inserts it.
#include "ops/unpack.h"

#include <algorithm>

#include "base/threads.h"
#include "ops/linear.h"

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const Weight& w = *call.weight(0);
  parallel_for(w.shape.rows, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) read_weight_row(w, r, call.out(0) + r * w.shape.cols);
  });
}

}  // namespace

const OpDef kUnpackOp{.name = "unpack", .reference = reference, .streamed = 1u};

Tensor unpack(Tensor w, At at) {
  Program& program = *w.program;
  require(program.info(w.id).kind == Kind::weight && w.dtype() == DType::u8, at, "unpack: packed weights");
  const Tensor y = program.temp(w.shape(), program.compute());
  program.record(kUnpackOp, {w}, {y}, 0, at);
  return y;
}

namespace {

bool is_packed(const Program& program, int id) {
  return id >= 0 && program.info(id).kind == Kind::weight && program.info(id).dtype == DType::u8;
}

}  // namespace

int unpack_weights(Program& program, const std::function<bool(const Program&, const Line&)>& supported) {
  std::vector<Line> lines = std::move(program.lines);
  program.lines.clear();
  int inserted = 0;
  for (Line& line : lines) {
    const bool reads = std::ranges::any_of(line.in, [&](int id) { return is_packed(program, id); });
    if (reads && !supported(program, line)) {
      for (int& id : line.in) {
        if (!is_packed(program, id)) continue;
        const Tensor values = line.op == &kLinearOp ? unpack(program.handle(id), line.at) : Tensor{};
        if (values && supported(program, program.lines.back())) {
          program.lines.back().stage = line.stage;
          id = values.id;
          ++inserted;
          continue;
        }
        if (values) program.lines.pop_back();
        program.tensors[size_t(id)].dtype = program.compute();
      }
    }
    program.lines.push_back(std::move(line));
  }
  return inserted;
}

}  // namespace flashrt
