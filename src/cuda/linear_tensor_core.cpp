// From a line of the tape to the parameters of the sm_90 linear kernels.
#include "cuda/linear_tensor_core.h"

#include <algorithm>

#include "base/error.h"
#include "cuda/device.h"
#include "cuda/linear_stream.h"
#include "cuda/linear_wgmma.h"
#include "cuda/tuning.h"
#include "ops/linear.h"

namespace flashrt::cuda {

namespace {

constexpr int kStreamRows = 64;

bool generation_90(const Problem& p) { return p.device.sm / 10 == 9; }

bool all_bf16(const Problem& p) {
  for (size_t i : {size_t(kX), size_t(kW), size_t(kResidual)}) {
    if (p.has(i) && p.in_type(i) != DType::bf16) return false;
  }
  return p.out_type(0) == DType::bf16;
}

bool is_f32_vector(const Problem& p, size_t i) {
  return !p.has(i) || (p.in_type(i) == DType::f32 && p.in(i).rows == 1);
}

bool rotates(const Problem& p) { return p.line.attrs<LinearAttrs>().rope.head_dim > 0; }
bool makes_sums(const Problem& p) { return p.line.out.size() > 1 && !rotates(p); }

template <class Activations>
Activations activation_of(Activation a) {
  switch (a) {
    case Activation::gelu:
    case Activation::geglu: return Activations::gelu_tanh;
    case Activation::silu:
    case Activation::swiglu: return Activations::silu;
    default: return Activations::none;
  }
}

LinearStreamParams stream_problem(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  LinearStreamParams s{};
  s.m = int(p.in(kX).rows), s.n = int(p.in(kW).rows), s.k = int(p.in(kW).cols);
  s.epilogue = rotates(p)              ? StreamEpilogue::qkv
               : is_pair(a.activation) ? StreamEpilogue::pair
               : p.has(kResidual)      ? StreamEpilogue::residual
                                       : StreamEpilogue::plain;
  s.activation = activation_of<StreamActivation>(a.activation);
  s.eps = a.norm.eps;
  s.q_heads = a.rope.heads, s.kv_heads = a.rope.kv_heads, s.head_dim = a.rope.head_dim;
  return s;
}

// Pointers, once there are addresses.
void fill_stream(const Problem& p, LinearStreamParams& s) {
  s.x_rows = p.in_data<const __nv_bfloat16>(kX);
  s.norm_scale = p.in_data<const float>(kNormScale);
  s.norm_shift = p.in_data<const float>(kNormShift);
  s.bias = p.in_data<const float>(kBias);
  s.gate = p.in_data<const float>(kGate);
  s.residual = p.in_data<const __nv_bfloat16>(kResidual);
  s.y = p.out_data<__nv_bfloat16>(0);
  if (!rotates(p)) return;
  s.position = p.in_data<const int>(kPosition);
  s.rope = p.in_data<const float2>(kTable);
  s.k_cache = p.out_data<__nv_bfloat16>(1);
  s.v_cache = p.out_data<__nv_bfloat16>(2);
}

constexpr const char* kStreamVariants[] = {"plain", "residual", "pair", "qkv"};

TunedRow stream_row(const LinearStreamParams& s, const StreamTactic& t) {
  return {.op = "linear",
          .implementation = "stream",
          .variant = kStreamVariants[int(s.epilogue)],
          .shape = {s.m, s.n, s.k},
          .tactic = {t.rows, t.row_groups, t.splits, t.clusters, t.stages, t.trigger}};
}

StreamTactic stream_tactic(const Problem& p, const LinearStreamParams& s) {
  const int64_t shape[] = {s.m, s.n, s.k};
  if (const TunedRow* row =
          find_tuned(p.device.name, "linear", "stream", kStreamVariants[int(s.epilogue)], shape)) {
    const auto& t = row->tactic;
    return {
        .rows = t[0], .row_groups = t[1], .splits = t[2], .clusters = t[3], .stages = t[4], .trigger = t[5]};
  }
  return choose_stream_tactic(s, p.device.processors);
}

LinearRows rows_of(const Problem& p) {
  if (rotates(p)) return LinearRows::heads;
  return is_pair(p.line.attrs<LinearAttrs>().activation) ? LinearRows::pair : LinearRows::plain;
}

LinearProblem wgmma_problem(const Problem& p) {
  return {.m = int(p.in(kX).rows),
          .n = int(p.in(kW).rows),
          .k = int(p.in(kW).cols),
          .x_stride = p.in_stride(kX),
          .w_stride = p.in_stride(kW),
          .rows = rows_of(p)};
}

LinearParams wgmma_epilogue(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  LinearParams e{};
  e.activation = activation_of<LinearActivation>(a.activation);
  e.out_stride = p.out(0).cols;
  if (p.has(kResidual)) {
    e.residual_stride = p.in_stride(kResidual);
    e.residual_period = int(p.in(kResidual).rows);
  }
  if (p.has(kStatistics)) {
    e.row_stat_slots = int(p.in(kStatistics).rows);
    e.centred = a.norm.kind == NormKind::layer;
    e.inverse_width = 1.f / float(p.in(kW).cols);
    e.epsilon = a.norm.eps;
  }
  if (makes_sums(p)) e.out_stat_slots = int(p.out(1).rows);
  e.head_dim = a.rope.head_dim, e.query_heads = a.rope.heads, e.kv_heads = a.rope.kv_heads;
  e.kv_stride = int64_t(a.rope.kv_heads) * a.rope.head_dim;
  return e;
}

constexpr const char* kWgmmaVariants[] = {"plain", "pair", "heads"};

TunedRow wgmma_row(const LinearProblem& problem, const LinearTactic& t) {
  return {.op = "linear",
          .implementation = "wgmma",
          .variant = kWgmmaVariants[int(problem.rows)],
          .shape = {problem.m, problem.n, problem.k},
          .tactic = {t.rows, t.tokens, t.cluster_rows, t.cluster_tokens, t.split, t.resident}};
}

LinearTactic wgmma_tactic(const Problem& p, const LinearProblem& problem) {
  const int64_t shape[] = {problem.m, problem.n, problem.k};
  if (const TunedRow* row =
          find_tuned(p.device.name, "linear", "wgmma", kWgmmaVariants[int(problem.rows)], shape)) {
    const auto& t = row->tactic;
    return {.rows = t[0],
            .tokens = t[1],
            .cluster_rows = t[2],
            .cluster_tokens = t[3],
            .split = t[4],
            .resident = std::max(1, t[5])};
  }
  const std::vector<LinearTactic> candidates =
      linear_candidates(problem, wgmma_epilogue(p), p.device.processors);
  if (candidates.empty()) return {};  // linear_refusal says why
  return candidates[0];
}

}  // namespace

bool fits_linear_stream(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  const Shape x = p.in(kX), w = p.in(kW);
  if (p.has(kStatistics) || makes_sums(p)) return false;
  if (!generation_90(p) || !all_bf16(p) || x.rows > kStreamRows || x.cols != w.cols || w.rows % 8 != 0)
    return false;
  if (w.cols % 8 != 0 || p.in_stride(kW) != w.cols) return false;  // it takes the matrix as one run of rows
  for (int i : {kBias, kGate, kNormScale, kNormShift}) {
    if (!is_f32_vector(p, size_t(i))) return false;
  }
  if (a.norm.kind == NormKind::layer || (p.has(kResidual) && p.in(kResidual).rows != x.rows)) return false;
  if (p.has(kResidual) && (rotates(p) || is_pair(a.activation))) return false;
  if (p.has(kGate) && !p.has(kResidual)) return false;
  if (rotates(p) && !p.has(kPosition)) return false;
  const LinearStreamParams problem = stream_problem(p);
  return stream_tiles(problem, 1) > 0 && !(problem.epilogue == StreamEpilogue::pair && w.rows % 16 != 0);
}

void launch_linear_stream(const Problem& p, std::vector<Launch>& out) {
  LinearStreamParams problem = stream_problem(p);
  fill_stream(p, problem);
  const StreamLaunch plan =
      plan_linear_stream(problem, p.in_data<void>(kW), stream_tactic(p, problem), tensor_map_function());
  if (plan.error != nullptr) fail_device("{}: linear stream: {}", to_string(p.line.at), plan.error);
  Launch launch = Launch::of(plan.kernel, plan.grid, plan.block, plan.params, plan.shared_bytes);
  launch.cluster = dim3(plan.cluster);
  out.push_back(std::move(launch));
}

bool fits_linear_wgmma(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  if (!generation_90(p) || !all_bf16(p)) return false;
  // A norm that the matrix and its bias have taken in; below this number of rows a pass over x costs less.
  const bool many = p.in(kX).rows > kStreamRows;
  const bool carried = p.has(kStatistics) && !p.has(kNormScale) && !p.has(kNormShift);
  if ((a.norm.kind != NormKind::none) != carried || ((carried || makes_sums(p)) && !many)) return false;
  if (!is_f32_vector(p, kBias) || !is_f32_vector(p, kGate) || (p.has(kGate) && !p.has(kResidual)))
    return false;
  if (p.has(kResidual) && rows_of(p) != LinearRows::plain) return false;
  const LinearProblem problem = wgmma_problem(p);
  const LinearParams epilogue = wgmma_epilogue(p);
  if (p.in(kX).cols < p.in(kW).cols) return false;
  // Pointers are not known yet; what they point to starts on 256 bytes.
  return linear_refusal(problem, epilogue, wgmma_tactic(p, problem)).empty();
}

void launch_linear_wgmma(const Problem& p, std::vector<Launch>& out) {
  LinearProblem problem = wgmma_problem(p);
  problem.x = p.in_data<void>(kX), problem.w = p.in_data<void>(kW);
  LinearParams e = wgmma_epilogue(p);
  e.bias = p.in_data<const float>(kBias);
  e.gate = p.in_data<const float>(kGate);
  e.residual = p.in_data<const void>(kResidual);
  e.out = p.out_data<void>(0);
  e.row_stats = p.in_data<const float>(kStatistics);
  if (makes_sums(p)) e.out_stats = p.out_data<float>(1);
  if (rotates(p)) {
    e.position = p.in_data<const int>(kPosition);
    e.rotary = p.in_data<const float>(kTable);
    e.keys = p.out_data<void>(1), e.values = p.out_data<void>(2);
  }
  const LinearTactic tactic = wgmma_tactic(p, problem);
  const LinearLaunch plan =
      plan_linear(problem, e, tactic, p.device.processors * tactic.resident / tactic.cluster());
  Launch launch = Launch::of(plan.kernel, unsigned(plan.grid), unsigned(plan.threads), plan.params,
                             unsigned(plan.shared_bytes));
  launch.cluster = dim3(unsigned(plan.cluster));
  out.push_back(std::move(launch));
}

std::vector<TunedRow> linear_tactics(const Problem& p, std::string_view implementation) {
  std::vector<TunedRow> rows;
  const auto add = [&](const TunedRow& row) {
    if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
  };
  if (implementation == "stream") {
    const LinearStreamParams problem = stream_problem(p);
    add(stream_row(problem, stream_tactic(p, problem)));
    for (const StreamTactic& t : stream_candidates(problem, p.device.processors)) add(stream_row(problem, t));
  }
  if (implementation == "wgmma") {
    constexpr size_t kMost = 16;  // they come by estimated time
    const LinearProblem problem = wgmma_problem(p);
    add(wgmma_row(problem, wgmma_tactic(p, problem)));
    for (const LinearTactic& t : linear_candidates(problem, wgmma_epilogue(p), p.device.processors)) {
      if (rows.size() < kMost) add(wgmma_row(problem, t));
    }
  }
  return rows;
}

}  // namespace flashrt::cuda
