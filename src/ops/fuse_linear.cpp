// Patterns that give a linear its prologue and epilogue.
#include <algorithm>

#include "ops/fusion.h"
#include "ops/linear.h"
#include "ops/residual.h"
#include "ops/split.h"

namespace flashrt {

namespace {

// The line that alone reads result 0 of `line`, when its op is `op`; else -1.
int follower(const FuseContext& context, size_t line, const OpDef& op) {
  const Line& from = context.program.lines[line];
  if (from.op != &kLinearOp || from.attrs<LinearAttrs>().rope.head_dim > 0) return -1;
  const int next = context.only_reader(from.out[0], line + 1);
  return next >= 0 && context.program.lines[size_t(next)].op == &op ? next : -1;
}

// Puts `fused` where `next` stands, if the device supports it, and removes `line`.
bool replace_pair(FuseContext& context, size_t line, int next, Line fused) {
  if (!context.supported(context.program, fused)) return false;
  context.program.lines[size_t(next)] = std::move(fused);
  context.program.lines[line].op = nullptr;
  return true;
}

}  // namespace

bool fuse_activation(FuseContext& context, size_t index) {
  const int next = follower(context, index, kActivationOp);
  if (next < 0) return false;
  Line fused = context.program.lines[index];
  auto attrs = fused.attrs<LinearAttrs>();
  if (attrs.activation != Activation::none || fused.has(kResidual)) return false;
  attrs.activation = context.program.lines[size_t(next)].attrs<Activation>();
  fused.set_attrs(attrs);
  fused.out = context.program.lines[size_t(next)].out;
  return replace_pair(context, index, next, std::move(fused));
}

bool fuse_residual(FuseContext& context, size_t index) {
  const int next = follower(context, index, kResidualOp);
  if (next < 0) return false;
  Line fused = context.program.lines[index];
  const Line& addition = context.program.lines[size_t(next)];
  if (fused.has(kResidual) || addition.in[1] != fused.out[0]) return false;
  fused.in[kResidual] = addition.in[0];
  fused.in[kGate] = addition.in[2];
  fused.out = addition.out;
  return replace_pair(context, index, next, std::move(fused));
}

bool fuse_linear_rope(FuseContext& context, size_t index) {
  const int next = follower(context, index, kRopeAppendOp);
  if (next < 0) return false;
  Line fused = context.program.lines[index];
  const Line& rotation = context.program.lines[size_t(next)];
  auto attrs = fused.attrs<LinearAttrs>();
  if (attrs.activation != Activation::none || fused.has(kResidual)) return false;
  attrs.rope = rotation.attrs<RopeAttrs>();
  fused.set_attrs(attrs);
  std::copy(rotation.in.begin() + 1, rotation.in.end(), fused.in.begin() + kTable);
  fused.out = rotation.out;
  return replace_pair(context, index, next, std::move(fused));
}

bool fuse_norm(FuseContext& context, size_t index) {
  Program& program = context.program;
  const Line& norm = program.lines[index];
  if (norm.op != &kNormOp) return false;
  const int next = context.only_reader(norm.out[0], index + 1);
  if (next < 0 || program.lines[size_t(next)].op != &kLinearOp) return false;
  Line fused = program.lines[size_t(next)];
  auto attrs = fused.attrs<LinearAttrs>();
  if (attrs.norm.kind != NormKind::none || fused.in[kX] != norm.out[0]) return false;
  attrs.norm = norm.attrs<NormAttrs>();
  fused.set_attrs(attrs);
  fused.in[kX] = norm.in[0], fused.in[kNormScale] = norm.in[1], fused.in[kNormShift] = norm.in[2];
  return replace_pair(context, index, next, std::move(fused));
}

bool narrow_linear(FuseContext& context, size_t index) {
  Program& program = context.program;
  const int next = follower(context, index, kSplitOp);
  if (next < 0) return false;
  Line &line = program.lines[index], &division = program.lines[size_t(next)];
  if (line.has(kBias) || line.has(kResidual)) return false;
  const auto unread =
      std::ranges::count_if(division.out, [&](int id) { return context.uses[size_t(id)] == 0; });
  const std::shared_ptr<const Weight> whole = program.info(line.in[kW]).weight;
  if (unread == 0 || whole == nullptr || whole->parts.size() != division.out.size()) return false;
  Weight kept{.name = whole->name + " (read rows)", .shape = {0, whole->shape.cols}};
  std::vector<int> results;
  for (size_t j = 0; j < division.out.size(); ++j) {
    if (whole->parts[j].rows != program.info(division.out[j]).shape.cols) return false;
    if (context.uses[size_t(division.out[j])] == 0) continue;
    kept.shape.rows += whole->parts[j].rows;
    kept.parts.push_back(whole->parts[j]);
    results.push_back(division.out[j]);
  }
  const int64_t rows = program.info(line.out[0]).shape.rows, width = kept.shape.rows;
  line.in[kW] = program.weight(std::move(kept)).id;
  line.out[0] = program.temp({rows, width}, program.info(line.out[0]).dtype).id;
  division.in[0] = line.out[0];
  division.out = std::move(results);
  context.refresh();
  return true;
}

}  // namespace flashrt
