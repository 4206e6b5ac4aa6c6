// The pattern of one token's attention: split, norms of the heads, rope, append and attention become one
// line.
#include <algorithm>

#include "ops/append.h"
#include "ops/attention_step.h"
#include "ops/fusion.h"
#include "ops/norm.h"
#include "ops/split.h"

namespace flashrt {

namespace {

// Follows a value back to the line that made it, through views; every step must have one reader.
struct Trace {
  const FuseContext& context;
  size_t before;
  std::vector<size_t> lines;  // passed, to be removed
  bool ok = true;

  const Line* producer(int id, const OpDef& op) {
    const Program& program = context.program;
    for (size_t i = before; ok && i-- > 0;) {
      const Line& line = program.lines[i];
      if (line.op == nullptr || std::ranges::find(line.out, id) == line.out.end()) continue;
      if (line.op != &op) break;
      lines.push_back(i);
      return &line;
    }
    ok = false;
    return nullptr;
  }
  // The tensor that `id` is a view of; itself when it is no view.
  int unview(int id) {
    const Program& program = context.program;
    while (ok && program.info(id).base != id && program.info(id).base >= 0) {
      ok = context.uses[size_t(id)] == 1 &&
           program.info(id).bytes() == program.info(program.info(id).base).bytes();
      id = program.info(id).base;
    }
    return id;
  }
  bool once(int id) { return ok = ok && context.uses[size_t(id)] == 1; }
};

bool made_by_norm(const FuseContext& context, int id) {
  return std::ranges::any_of(context.program.lines,
                             [&](const Line& line) { return line.op == &kNormOp && line.out[0] == id; });
}

struct RotatedHead {
  int source = -1, norm = -1, table = -1, position = -1;
  float eps = 0;
};

// x = rope([norm](source))
RotatedHead trace_rotation(Trace& trace, int x, int32_t head_dim) {
  RotatedHead head;
  const Line* rotation = trace.once(x) ? trace.producer(x, kRopeOp) : nullptr;
  if (rotation == nullptr || rotation->attrs<RopeAttrs>().head_dim != head_dim) return trace.ok = false, head;
  head.table = rotation->in[1], head.position = rotation->input(2);
  int id = trace.unview(rotation->in[0]);
  if (made_by_norm(trace.context, id)) {
    const Line* norm = trace.once(id) ? trace.producer(id, kNormOp) : nullptr;
    if (norm == nullptr || norm->attrs<NormAttrs>().kind != NormKind::rms || norm->has(2)) trace.ok = false;
    if (!trace.ok) return head;
    head.norm = norm->in[1], head.eps = norm->attrs<NormAttrs>().eps;
    id = trace.unview(norm->in[0]);
  }
  head.source = id;
  return head;
}

}  // namespace

bool fuse_attention_step(FuseContext& context, size_t index) {
  Program& program = context.program;
  const Line& line = program.lines[index];
  if (line.op != &kAttentionOp || !line.has(3) || program.info(line.out[0]).shape.rows != 1) return false;
  const auto a = line.attrs<AttentionAttrs>();
  if (a.segments != 1 || a.keys != 1 || a.lead_rows != 0 || a.q_col != 0 || a.k_col != 0 || a.v_col != 0)
    return false;
  Trace trace{context, index, {}};
  const RotatedHead q = trace_rotation(trace, line.in[0], a.head_dim);
  const Line* store_k = trace.once(line.in[1]) ? trace.producer(line.in[1], kAppendOp) : nullptr;
  const Line* store_v = trace.once(line.in[2]) ? trace.producer(line.in[2], kAppendOp) : nullptr;
  if (!trace.ok || program.info(program.root(line.in[1])).kind != Kind::state) return false;
  const RotatedHead k = trace_rotation(trace, store_k->in[0], a.head_dim);
  const Line* division = trace.producer(q.source, kSplitOp);
  if (!trace.ok || division->out.size() != 3 || division->out[0] != q.source ||
      division->out[1] != k.source || division->out[2] != store_v->in[0] || q.table != k.table ||
      (q.norm < 0) != (k.norm < 0) || q.eps != k.eps)
    return false;
  for (int id : division->out) {
    if (!trace.once(id)) return false;
  }
  for (int position : {q.position, k.position, store_k->input(1), store_v->input(1)}) {
    if (position != line.in[3]) return false;
  }
  Line fused = line;
  fused.op = &kAttentionStepOp;
  fused.in = {division->in[0], q.table, line.in[3], store_k->in[2], store_v->in[2], q.norm, k.norm};
  fused.out = {line.out[0], line.in[1], line.in[2]};
  fused.set_attrs(AttentionStepAttrs{.heads = a.heads,
                                     .kv_heads = a.kv_heads,
                                     .head_dim = a.head_dim,
                                     .window = a.window,
                                     .scale = a.scale,
                                     .eps = q.eps});
  if (!context.supported(program, fused)) return false;
  program.lines[index] = std::move(fused);
  for (size_t passed : trace.lines) program.lines[passed].op = nullptr;
  context.refresh();
  return true;
}

}  // namespace flashrt
