// Patterns that remove the copies between the q | k | v product and attention.
#include <algorithm>

#include "ops/append.h"
#include "ops/attention.h"
#include "ops/fusion.h"
#include "ops/rope.h"
#include "ops/split.h"

namespace flashrt {

bool pack_attention(FuseContext& context, size_t index) {
  Program& program = context.program;
  const Line& division = program.lines[index];
  if (division.op != &kSplitOp || division.out.size() != 3) return false;
  const int reader = context.only_reader(division.out[0], index + 1);
  if (reader < 0 || program.lines[size_t(reader)].op != &kAttentionOp) return false;
  Line fused = program.lines[size_t(reader)];
  if (!std::equal(division.out.begin(), division.out.end(), fused.in.begin())) return false;
  if (std::ranges::any_of(division.out, [&](int id) { return context.uses[size_t(id)] != 1; })) return false;
  auto attrs = fused.attrs<AttentionAttrs>();
  attrs.k_col = attrs.q_col + attrs.heads * attrs.head_dim;
  attrs.v_col = attrs.k_col + attrs.kv_heads * attrs.head_dim;
  fused.set_attrs(attrs);
  std::fill_n(fused.in.begin(), 3, division.in[0]);
  if (!context.supported(program, fused)) return false;
  program.lines[size_t(reader)] = std::move(fused);
  program.lines[index].op = nullptr;
  return true;
}

// split(qkv) → [rope(q)], rope(k) → append, append(v), or without q when nothing reads it.
bool fuse_rope_append(FuseContext& context, size_t index) {
  Program& program = context.program;
  const Line& division = program.lines[index];
  const size_t parts = division.out.size();
  if (division.op != &kSplitOp || parts < 2 || parts > 3) return false;
  const auto reader = [&](int id, const OpDef& op) {
    const int line = context.only_reader(id, index + 1);
    return line >= 0 && program.lines[size_t(line)].op == &op ? line : -1;
  };
  const int rope_q = parts == 3 ? reader(division.out[0], kRopeOp) : -1;
  const int rope_k = reader(division.out[parts - 2], kRopeOp);
  if (rope_k < 0 || (parts == 3 && rope_q < 0)) return false;
  const int append_k = reader(program.lines[size_t(rope_k)].out[0], kAppendOp);
  const int append_v = reader(division.out[parts - 1], kAppendOp);
  if (append_k < 0 || append_v < 0) return false;
  const Line &k = program.lines[size_t(rope_k)], &store_k = program.lines[size_t(append_k)];
  const Line& store_v = program.lines[size_t(append_v)];
  if (store_k.in[1] != k.in[2] || store_v.in[1] != k.in[2]) return false;  // one position for all

  Line fused = k;
  auto attrs = k.attrs<RopeAttrs>();
  attrs.kv_heads = attrs.heads;
  attrs.heads = 0;
  int q = -1;
  if (rope_q >= 0) {
    const Line& rotation = program.lines[size_t(rope_q)];
    if (rotation.in[1] != k.in[1] || rotation.in[2] != k.in[2]) return false;
    attrs.heads = rotation.attrs<RopeAttrs>().heads;
    q = rotation.out[0];
  }
  fused.op = &kRopeAppendOp;
  fused.set_attrs(attrs);
  fused.in = {division.in[0], k.in[1], k.in[2], store_k.in[2], store_v.in[2]};
  if (q < 0) q = program.temp({1, attrs.head_dim}, program.info(division.out[0]).dtype).id;  // never written
  fused.out = {q, store_k.out[0], store_v.out[0]};
  if (!context.supported(program, fused)) return false;
  const int last = std::max({append_k, append_v, rope_q});
  for (int line : {rope_q, rope_k, append_k, append_v}) {
    if (line >= 0) program.lines[size_t(line)].op = nullptr;
  }
  program.lines[index].op = nullptr;
  program.lines[size_t(last)] = std::move(fused);
  context.refresh();
  return true;
}

}  // namespace flashrt
