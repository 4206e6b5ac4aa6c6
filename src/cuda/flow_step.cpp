// Implementations of the fused denoising step.
#include "ops/flow_step.h"

#include "cuda/kernels/common/flow_step_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

constexpr int64_t kActions = 32, kWidest = 1024;  // of the compiled kernel

bool fits_rows(const Problem& p) {
  const Shape hidden = p.in(kFlowHidden);
  const auto norm = p.line.attrs<FlowStepAttrs>().norm.kind;
  if (p.device.sm / 10 != 9 || p.in(kFlowX).cols != kActions || hidden.cols > kWidest || hidden.cols % 8 != 0)
    return false;
  if (norm != NormKind::rms && norm != NormKind::ada_rms) return false;
  if (p.in_type(kFlowHidden) != DType::bf16 || p.in_type(kFlowOut) != DType::bf16) return false;
  return p.line.out.size() < 2 ||
         (p.in_type(kFlowIn) == DType::bf16 && p.out_type(1) == DType::bf16 && p.out(1).cols == hidden.cols);
}

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const auto attrs = p.line.attrs<FlowStepAttrs>();
  const FlowStepParams params{
      .tokens = int(p.in(kFlowHidden).rows),
      .width = int(p.in(kFlowHidden).cols),
      .hidden = p.in_data<const __nv_bfloat16>(kFlowHidden),
      .norm_scale = p.in_data<const float>(kFlowNormScale),
      .norm_shift = p.in_data<const float>(kFlowNormShift),
      .eps = attrs.norm.eps,
      .dt = attrs.dt,
      .w_out = p.in_data<const __nv_bfloat16>(kFlowOut),
      .b_out = p.in_data<const float>(kFlowOutBias),
      .state = p.in_data<const float>(kFlowX),
      .next_state = p.out_data<float>(0),
      .w_in = p.in_data<const __nv_bfloat16>(kFlowIn),
      .b_in = p.in_data<const float>(kFlowInBias),
      .out = p.line.out.size() > 1 ? p.out_data<__nv_bfloat16>(1) : nullptr,
      .stat_out = nullptr,
  };
  out.push_back(Launch::of("flow_step", unsigned(params.tokens), 512, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};  // one block per token

}  // namespace

std::span<const Implementation> flow_step_table() { return kTable; }

}  // namespace flashrt::cuda
