// Memory planning: in-place handover, then exact lifetimes → offsets (largest first, lowest free offset).
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "tape/program.h"

namespace flashrt {

namespace {

constexpr int64_t kAlign = 256;
constexpr int64_t aligned(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

struct Life {
  int first = std::numeric_limits<int>::max(), last = -1;
  void touch(int line) { first = std::min(first, line), last = std::max(last, line); }
};

std::vector<Life> lifetimes(const Program& program) {
  std::vector<Life> life(program.tensors.size());
  const int end = int(program.lines.size());
  for (int i = 0; i < end; ++i) {
    for (int id : program.lines[size_t(i)].in) {
      if (id >= 0) life[size_t(program.root(id))].touch(i);
    }
    for (int id : program.lines[size_t(i)].out) life[size_t(program.root(id))].touch(i);
  }
  for (const auto& [name, id] : program.inputs) life[size_t(id)].touch(-1), life[size_t(id)].touch(end);
  for (const auto& [name, id] : program.outputs) life[size_t(program.root(id))].touch(end);
  return life;
}

// Output 0 of a line takes over the memory of an operand that dies there, where the op allows it.
void hand_over(Program& program) {
  std::vector<Life> life = lifetimes(program);
  for (size_t i = 0; i < program.lines.size(); ++i) {
    const Line& line = program.lines[i];
    const int operand = line.op->in_place;
    if (operand < 0 || !line.has(size_t(operand))) continue;
    const int in = line.in[size_t(operand)], out = line.out[0];
    const int root = program.root(in);
    const TensorInfo &from = program.info(root), &to = program.info(out);
    if (program.root(out) != out || from.kind != Kind::temp || life[size_t(root)].last != int(i)) continue;
    if (program.info(in).bytes() != from.bytes() || from.shape != to.shape || from.dtype != to.dtype)
      continue;
    if (std::ranges::count_if(line.in, [&](int id) { return id >= 0 && program.root(id) == root; }) != 1)
      continue;
    if (life[size_t(out)].last == int(program.lines.size())) continue;  // outputs have a region of their own
    program.tensors[size_t(out)].base = in;
    life[size_t(root)].last = life[size_t(out)].last;
  }
}

}  // namespace

Plan plan_memory(Program& program) {
  hand_over(program);
  const std::vector<Life> life = lifetimes(program);
  Plan plan;
  plan.offset.assign(program.tensors.size(), -1);

  const auto place = [&](int id, int64_t& cursor) {
    plan.offset[size_t(id)] = cursor;
    cursor += aligned(int64_t(program.info(id).bytes()));
  };
  int64_t cursor = 0;
  for (const auto& [name, id] : program.inputs) place(id, cursor);
  plan.input_bytes = cursor;
  plan.output_begin = cursor;
  for (const auto& [name, id] : program.outputs) {
    const int root = program.root(id);
    check(program.info(root).kind == Kind::temp, "an output is written by a line");
    if (plan.offset[size_t(root)] < 0) place(root, cursor);
  }
  plan.output_bytes = cursor - plan.output_begin;
  plan.unshared_bytes = cursor;
  const int64_t begin = cursor;

  std::vector<int> order;
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    const Kind kind = program.tensors[id].kind;
    const bool sharable = kind == Kind::temp || kind == Kind::buffer;
    if (program.root(int(id)) == int(id) && sharable && life[id].last >= 0 && plan.offset[id] < 0) {
      order.push_back(int(id));
    }
  }
  std::ranges::stable_sort(order,
                           [&](int a, int b) { return program.info(a).bytes() > program.info(b).bytes(); });

  std::vector<int> placed;  // sorted by offset
  plan.arena_bytes = begin;
  for (int id : order) {
    const int64_t size = aligned(int64_t(program.info(id).bytes()));
    int64_t at = begin;
    for (int other : placed) {
      const bool apart = life[size_t(other)].last < life[size_t(id)].first ||
                         life[size_t(other)].first > life[size_t(id)].last;
      if (apart) continue;
      const int64_t low = plan.offset[size_t(other)];
      if (at + size <= low) break;
      at = std::max(at, low + aligned(int64_t(program.info(other).bytes())));
    }
    plan.offset[size_t(id)] = at;
    plan.arena_bytes = std::max(plan.arena_bytes, at + size);
    plan.unshared_bytes += size;
    placed.insert(std::ranges::upper_bound(placed, at, {}, [&](int p) { return plan.offset[size_t(p)]; }),
                  id);
  }
  return plan;
}

std::string dump_memory(const Program& program, const Plan& plan) {
  const std::vector<Life> life = lifetimes(program);
  std::string text = fmt::format("arena {} bytes ({} without sharing), inputs {}, outputs {}\n",
                                 plan.arena_bytes, plan.unshared_bytes, plan.input_bytes, plan.output_bytes);
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    if (plan.offset[id] < 0) continue;
    const TensorInfo& t = program.tensors[id];
    text +=
        fmt::format("{:>12} +{:<10} lines {}..{}  %{} {}[{}, {}] {}\n", plan.offset[id], t.bytes(),
                    life[id].first, life[id].last, id, name_of(t.dtype), t.shape.rows, t.shape.cols, t.name);
  }
  return text;
}

}  // namespace flashrt
