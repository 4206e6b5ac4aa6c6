// The sm_90 matrix-vector kernel: how its ring is cut, and which lines of the tape it takes.
#include "cuda/linear_gemv.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "cuda/linear_tensor_core.h"
#include "cuda/operands.h"
#include "cuda/point_function.h"
#include "ops/linear.h"

namespace flashrt::cuda {

namespace {

// Two kernels of a chain and an attention share a multiprocessor's 227 KB, so that the next one's ring fills
// while this one's drains.
constexpr int kLargestShared = 226 * 1024;
constexpr int kMostSlots = 64, kBatch = 16, kWarps = 8;

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

bool same_half(const Problem& p) {
  const DType type = p.in_type(kX);
  return is_half(type) && p.in_type(kW) == type && (!p.has(kResidual) || p.in_type(kResidual) == type) &&
         (p.out_type(0) == type || p.out_type(0) == DType::f32);
}

bool is_vector(const Problem& p, size_t i) {
  return !p.has(i) || (p.in_type(i) == DType::f32 && p.in(i).rows == 1);
}

LinearGemvParams params_of(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  LinearGemvParams g{};
  g.row_bytes = p.in_stride(kW) * int64_t(size_of(p.in_type(kW)));
  g.x_stride = p.in_stride(kX);
  g.m = int(p.in(kX).rows), g.n = int(p.in(kW).rows), g.k = int(p.in(kW).cols);
  g.eps = a.norm.eps;
  g.function = point_function_of(a.activation);
  g.y_stride = p.out(0).cols;
  g.y_f32 = p.out_type(0) == DType::f32;
  if (p.has(kResidual)) g.residual_stride = p.in_stride(kResidual);
  return g;
}

}  // namespace

GemvTactic& default_gemv_tactic() {
  static GemvTactic tactic;
  return tactic;
}

int plan_linear_gemv(LinearGemvParams& p, const GemvLayout& layout, int rows, int chunk_columns) {
  const GemvTactic& tactic = default_gemv_tactic();
  const int step_columns = 256 * layout.groups;
  p.units = p.n / 2;
  p.inv_k = 1.f / float(p.k);
  if (chunk_columns > 0) {
    p.chunk_columns = chunk_columns;
    p.chunk_steps = divide_up(chunk_columns, step_columns);
    p.chunks = p.k / chunk_columns;
    p.steps = p.chunks * p.chunk_steps;
  } else {
    p.steps = divide_up(p.k, step_columns);
    p.chunks = divide_up(p.steps, tactic.chunk_steps);
    p.chunk_steps = divide_up(p.steps, p.chunks);
    p.chunk_columns = p.chunk_steps * step_columns;
  }
  p.chunk_bytes = p.chunk_steps * layout.step_bytes;
  p.stage_bytes = 2 * p.chunk_bytes;
  // One or two steps of a chunk for each warp; where there are fewer, the other warps take other units.
  p.warps_per_unit =
      std::min(kWarps, int(std::bit_ceil(unsigned(divide_up(p.chunk_steps, tactic.warp_steps)))));
  const int x_bytes = rows * p.chunks * p.chunk_steps * layout.groups * 512;
  const int partial_bytes = 2 * kBatch * 2 * rows * kWarps * 4;
  const int tail = rows * kWarps * 4 + 128;  // squares, the experts' shares
  const int groups = p.groups = kWarps / p.warps_per_unit, ring = groups * p.stage_bytes;
  const int room = tactic.shared - x_bytes - partial_bytes - kMostSlots * 16 - tail;
  p.stages = std::clamp(room / ring, 2, kMostSlots / groups);
  p.slots = p.stages * groups;
  p.x_at = p.stages * ring;
  p.partials_at = p.x_at + x_bytes;
  p.barriers_at = p.partials_at + partial_bytes;
  return p.barriers_at + p.stages * groups * 16 + tail;
}

namespace {

int rows_of(const LinearGemvParams& g) { return g.m == 1 ? 1 : 4; }

// The next line whose weights this kernel also streams, in the program's order or its next run's.
void look_ahead(const Problem& p, LinearGemvParams& g) {
  const std::vector<Line>& lines = p.program.lines;
  const size_t here = size_t(&p.line - lines.data());
  for (size_t i = 1; i < lines.size(); ++i) {
    const Line& line = lines[(here + i) % lines.size()];
    if (line.op != &kLinearOp) continue;
    const Problem other{.program = p.program, .line = line, .device = p.device, .address = p.address};
    if (!fits_linear_gemv(other)) return;
    LinearGemvParams next = params_of(other);
    plan_linear_gemv(next, {}, rows_of(next));
    const bool pair = is_pair(line.attrs<LinearAttrs>().activation);
    const int64_t rows = pair ? next.n / 2 : next.n, share = default_gemv_tactic().ahead / (pair ? 2 : 1);
    // What its rings hold by then is no longer of interest.
    const int64_t skipped =
        std::min<int64_t>(rows, int64_t(p.device.processors) * (next.slots / next.chunks) * (pair ? 1 : 2));
    const auto* weights = other.in_data<const uint8_t>(kW);
    g.ahead_bytes = std::min(share, (rows - skipped) * next.row_bytes);
    if (g.ahead_bytes <= 0) return;
    g.ahead[0] = weights + skipped * next.row_bytes;
    if (pair) g.ahead[1] = g.ahead[0] + rows * next.row_bytes;
    return;
  }
}

}  // namespace

bool fits_linear_gemv(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  const Shape x = p.in(kX), w = p.in(kW);
  const Kind kind = p.program.info(p.program.root(p.line.in[kW])).kind;
  if (p.device.sm / 10 != 9 || !same_half(p) || x.rows > 4 || x.cols < w.cols || w.rows % 2 != 0)
    return false;
  if (!packed(p.in_stride(kX), p.in_stride(kW)) || a.rope.head_dim > 0 || p.line.out.size() != 1)
    return false;
  for (size_t i = kVCache + 1; i < p.line.in.size(); ++i) {
    if (p.has(i)) return false;
  }
  if (kind != Kind::weight && kind != Kind::constant)
    return false;  // weights are read ahead of other kernels
  for (int i : {kBias, kGate, kNormScale}) {
    if (!is_vector(p, size_t(i))) return false;
  }
  if (a.norm.kind != NormKind::none &&
      (a.norm.kind != NormKind::rms || p.has(kNormShift) || x.cols != w.cols))
    return false;
  if (p.has(kResidual) && (is_pair(a.activation) || p.in(kResidual).rows != x.rows)) return false;
  LinearGemvParams params = params_of(p);
  if (x.rows > 1 && fits_linear_stream(p)) return false;  // which has matrix units for more rows
  return plan_linear_gemv(params, {}, rows_of(params)) <= kLargestShared;
}

void launch_linear_gemv(const Problem& p, std::vector<Launch>& out) {
  LinearGemvParams g = params_of(p);
  g.weights = p.in_data<const uint8_t>(kW);
  g.x = p.in_data<const void>(kX);
  g.norm_scale = p.in_data<const float>(kNormScale);
  g.bias = p.in_data<const float>(kBias);
  g.gate = p.in_data<const float>(kGate);
  g.residual = p.in_data<const void>(kResidual);
  g.y = p.out_data<void>(0);
  const int shared = plan_linear_gemv(g, {}, rows_of(g));
  look_ahead(p, g);
  const bool pair = is_pair(p.line.attrs<LinearAttrs>().activation);
  const std::string kernel =
      fmt::format("linear_gemv_{}_{}_m{}", name_of(p.in_type(kX)), pair ? "pair" : "plain", rows_of(g));
  out.push_back(
      Launch::of(kernel, unsigned(std::min(p.device.processors, g.units)), kGemvBlock, g, unsigned(shared)));
}

}  // namespace flashrt::cuda
