// The sm_90 linear of packed weights: which lines of the tape it takes, and how its shared memory is cut.
#include "cuda/linear_packed.h"

#include <algorithm>

#include "base/error.h"
#include "cuda/operands.h"
#include "cuda/packed_layout.h"
#include "cuda/point_function.h"
#include "ops/linear.h"

namespace flashrt::cuda {

namespace {

constexpr int kWarps = kPackedWarps, kThreads = (kWarps + 2) * 32, kMostRows = kPackedMostRows;
constexpr int kPartialBytes = kPackedBuffers * kWarps * kPackedPartials * 4;
// Two kernels of a chain and an attention share a multiprocessor, its registers too, so that one's ring fills
// while the other's drains.
constexpr int kMostShared = 226 * 1024, kLeastStages = 3, kMostStages = 24;

constexpr const char* kKernels[] = {"linear_packed_fp8", "linear_packed_int8", "linear_packed_int4",
                                    "linear_packed_int4_fine", "linear_packed_nvfp4"};  // … _m1, _m8

bool is_vector(const Problem& p, size_t i) {
  return !p.has(i) || (p.in_type(i) == DType::f32 && p.in(i).rows == 1);
}

const Weight* weight_of(const Problem& p) {
  const TensorInfo& info = p.program.info(p.program.root(p.line.in[kW]));
  return info.kind == Kind::weight && info.dtype == DType::u8 ? info.weight.get() : nullptr;
}

// Returns the bytes of shared memory.
int cut_shared(LinearPackedParams& g, PackedKind kind) {
  const PackedTactic& tactic = default_packed_tactic();
  const int step_bytes = packed_step_bytes(kind);
  g.chunk_steps = std::min(g.w.steps, is_wide(kind) ? tactic.wide_chunk : tactic.narrow_chunk);
  g.trigger = tactic.trigger;
  g.x_row_bytes = g.w.steps * kPackedColumns * 2 + 64;  // rows begin at other banks
  const int sums =
      !is_int4(kind) ? 0 : g.w.steps * (kind == PackedKind::int4 ? 4 : 16) * (g.m == 1 ? 1 : kMostRows);
  const int sums_bytes = (sums + 127) / 128 * 128, squares = 2 * kMostRows * kWarps * 4, zeros = 128;
  const int fixed = g.m * g.x_row_bytes + sums_bytes + zeros + kPartialBytes + squares +
                    (kMostStages + kPackedBuffers) * 16;
  const int chunk = g.chunk_steps * step_bytes;
  g.stages = std::clamp((tactic.shared - fixed) / chunk, kLeastStages, kMostStages);
  g.x_at = (g.stages * chunk + 127) / 128 * 128;
  g.sums_at = g.x_at + g.m * g.x_row_bytes;
  g.zeros_at = g.sums_at + sums_bytes;
  g.partials_at = g.zeros_at + zeros;
  g.squares_at = g.partials_at + kPartialBytes;
  g.barriers_at = g.squares_at + squares;
  return g.barriers_at + (g.stages + kPackedBuffers) * 16;
}

LinearPackedParams params_of(const Problem& p, const Weight& weight, const void* memory) {
  const auto a = p.line.attrs<LinearAttrs>();
  LinearPackedParams g{};
  g.w = packed_matrix(weight, memory);
  g.x_stride = p.in_stride(kX);
  g.m = int(p.in(kX).rows);
  g.tiles = int(packed_layout(weight).tiles);
  g.eps = a.norm.eps;
  g.inv_k = 1.f / float(g.w.k);
  g.function = point_function_of(a.activation);
  g.pair = is_pair(a.activation);
  g.y_f32 = p.out_type(0) == DType::f32;
  g.y_stride = p.out(0).cols;
  if (p.has(kResidual)) g.residual_stride = p.in_stride(kResidual);
  return g;
}

}  // namespace

PackedTactic& default_packed_tactic() {
  static PackedTactic tactic;
  return tactic;
}

bool fits_linear_packed(const Problem& p) {
  const auto a = p.line.attrs<LinearAttrs>();
  const Weight* weight = weight_of(p);
  if (weight == nullptr || p.device.sm / 10 != 9 || p.line.out.size() != 1) return false;
  const Shape x = p.in(kX), w = p.in(kW);
  if (p.in_type(kX) != DType::bf16 || x.rows > kMostRows || x.cols < w.cols || w.rows % 2 != 0 ||
      w.cols % 8 != 0 || !packed(p.in_stride(kX)) || a.rope.head_dim > 0) {
    return false;
  }
  if (p.out_type(0) != DType::bf16 && p.out_type(0) != DType::f32) return false;
  for (const int i : {kBias, kGate, kNormScale}) {
    if (!is_vector(p, size_t(i))) return false;
  }
  if (a.norm.kind != NormKind::none &&
      (a.norm.kind != NormKind::rms || !p.has(kNormScale) || p.has(kNormShift) || x.cols != w.cols)) {
    return false;
  }
  if (p.has(kResidual) && (p.in_type(kResidual) != DType::bf16 || p.in(kResidual).rows != x.rows))
    return false;
  LinearPackedParams g = params_of(p, *weight, nullptr);
  return cut_shared(g, packed_layout(*weight).kind) <= kMostShared;
}

void launch_linear_packed(const Problem& p, std::vector<Launch>& out) {
  const Weight& weight = *weight_of(p);
  LinearPackedParams g = params_of(p, weight, p.in_data<const void>(kW));
  g.x = p.in_data<const void>(kX);
  g.norm_scale = p.in_data<const float>(kNormScale);
  g.bias = p.in_data<const float>(kBias);
  g.gate = p.in_data<const float>(kGate);
  g.residual = p.in_data<const void>(kResidual);
  g.y = p.out_data<void>(0);
  const PackedKind kind = packed_layout(weight).kind;
  const int shared = cut_shared(g, kind);
  const auto blocks = unsigned(std::min(p.device.processors, g.tiles));
  out.push_back(Launch::of(std::string(kKernels[int(kind)]) + (g.m == 1 ? "_m1" : "_m8"), blocks, kThreads, g,
                           unsigned(shared)));
}

}  // namespace flashrt::cuda
