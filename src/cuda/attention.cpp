// Implementations of attention.
#include "ops/attention.h"

#include <array>
#include <cmath>

#include "base/error.h"
#include "cuda/attention_wgmma.h"
#include "cuda/kernels/common/tile_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"
#include "cuda/tuning.h"

namespace flashrt::cuda {

namespace {

bool half_types(const Problem& p) {
  return is_half(p.in_type(0)) && p.in_type(1) == p.in_type(0) && p.in_type(2) == p.in_type(0) &&
         is_element(p.out_type(0));
}
bool element_types(const Problem& p) {
  return is_element(p.in_type(0)) && is_element(p.in_type(1)) && is_element(p.in_type(2)) &&
         is_element(p.out_type(0));
}

AttentionTileParams tile_params(const Problem& p) {
  const auto a = p.line.attrs<AttentionAttrs>();
  return {
      .q = source(p, 0, a.q_col),
      .k = source(p, 1, a.k_col),
      .v = source(p, 2, a.v_col),
      .out = target(p, 0),
      .length = p.in_data<const int>(3),
      .rows = int(p.out(0).rows / a.segments),
      .capacity = int(p.in(1).rows / a.segments),
      .keys = a.keys,
      .lead_rows = a.lead_rows,
      .heads = a.heads,
      .kv_heads = a.kv_heads,
      .head_dim = a.head_dim,
      .window = a.window,
      .causal = a.causal != 0,
      .scale = a.scale != 0 ? a.scale : 1.f / std::sqrt(float(a.head_dim)),
  };
}

// The compiled widths; keys per tile follow from shared memory (99 KB on the smallest devices).
struct Instance {
  int width, keys;
  const char *bf16, *f16;
};
constexpr Instance kInstances[] = {
    {64, 64, "attention_mma_bf16_64", "attention_mma_f16_64"},
    {80, 64, "attention_mma_bf16_80", "attention_mma_f16_80"},
    {128, 64, "attention_mma_bf16_128", "attention_mma_f16_128"},
    {256, 32, "attention_mma_bf16_256", "attention_mma_f16_256"},
};
const Instance* instance_for(int head_dim) {
  const auto found = std::ranges::find_if(kInstances, [&](const Instance& i) { return i.width >= head_dim; });
  return found != std::end(kInstances) ? found : nullptr;
}

bool fits_mma(const Problem& p) {
  const auto a = p.line.attrs<AttentionAttrs>();
  return half_types(p) && instance_for(a.head_dim) != nullptr &&
         packed(a.head_dim, a.q_col, a.k_col, a.v_col, p.in_stride(0), p.in_stride(1), p.in_stride(2));
}

void launch_mma(const Problem& p, std::vector<Launch>& out) {
  const AttentionTileParams params = tile_params(p);
  const Instance& instance = *instance_for(params.head_dim);
  const int packed_rows = params.rows * (params.heads / params.kv_heads);
  const dim3 grid(unsigned(packed_rows + 63) / 64, unsigned(params.kv_heads),
                  unsigned(p.line.attrs<AttentionAttrs>().segments));
  const unsigned shared = unsigned((64 + 4 * instance.keys) * (instance.width + 8) * 2);
  const char* kernel = p.in_type(0) == DType::bf16 ? instance.bf16 : instance.f16;
  out.push_back(Launch::of(kernel, grid, 128, params, shared));
}

bool fits_simt(const Problem& p) {
  const auto a = p.line.attrs<AttentionAttrs>();
  return element_types(p) && a.head_dim <= 256;
}

void launch_simt(const Problem& p, std::vector<Launch>& out) {
  const AttentionTileParams params = tile_params(p);
  const dim3 grid(unsigned(params.rows * params.heads + 3) / 4,
                  unsigned(p.line.attrs<AttentionAttrs>().segments));
  out.push_back(Launch::of("attention_simt", grid, 128, params));
}

// The tactics that attention_wgmma.h lists; the tuned one, or the first.
AttentionParams wgmma_params(const Problem& p) {
  const auto a = p.line.attrs<AttentionAttrs>();
  const auto pointer = [&](size_t i, int col) {
    return static_cast<const void*>(p.address.empty() ? nullptr : p.in_data<const uint16_t>(i) + col);
  };
  return {
      .q = pointer(0, a.q_col),
      .k = pointer(1, a.k_col),
      .v = pointer(2, a.v_col),
      .out = p.address.empty() ? nullptr : p.out_data<void>(0),
      .ld_q = int32_t(p.in_stride(0)),
      .ld_k = int32_t(p.in_stride(1)),
      .ld_v = int32_t(p.in_stride(2)),
      .ld_out = int32_t(p.out(0).cols),
      .rows_q = int32_t(p.out(0).rows / a.segments),
      .rows_k = int32_t(p.in(1).rows / a.segments),
      .segments = a.segments,
      .heads = a.heads,
      .kv_heads = a.kv_heads,
      .head_dim = a.head_dim,
      .key_base = a.keys,
      .length = p.address.empty() ? nullptr : p.in_data<const int32_t>(3),
      .causal = a.causal,
      .lead_rows = a.lead_rows,
      .scale = a.scale != 0 ? a.scale : 1.f / std::sqrt(float(a.head_dim)),
  };
}

AttentionTactic wgmma_tactic(const Problem& p, const AttentionParams& params) {
  std::array<AttentionTactic, 256> tactics;
  const int count = attention_wgmma_tactics(params, tactics);
  if (count == 0) return {};
  const std::span<const char* const> names = attention_wgmma_kernels();
  const int64_t shape[] = {params.rows_q, params.rows_k, params.head_dim, params.heads};
  if (const TunedRow* row = find_tuned(p.device.name, "attention", "wgmma", "bf16", shape)) {
    return {names[size_t(row->tactic[0])], row->tactic[1], row->tactic[2]};
  }
  return tactics[0];
}

bool fits_wgmma(const Problem& p) {
  return p.device.sm / 10 == 9 && half_types(p) && p.in_type(0) == DType::bf16 &&
         p.out_type(0) == DType::bf16 && p.line.attrs<AttentionAttrs>().window == 0 &&
         packed(p.line.attrs<AttentionAttrs>().q_col, p.line.attrs<AttentionAttrs>().k_col,
                p.line.attrs<AttentionAttrs>().v_col) &&
         wgmma_tactic(p, wgmma_params(p)).kernel != nullptr;
}

void launch_wgmma(const Problem& p, std::vector<Launch>& out) {
  const AttentionParams params = wgmma_params(p);
  AttentionLaunch plan{};
  if (const char* why = attention_wgmma_prepare(params, wgmma_tactic(p, params), plan)) {
    fail_device("{}: attention: {}", to_string(p.line.at), why);
  }
  Launch launch = Launch::of(plan.kernel, plan.grid, plan.block, plan.maps, plan.smem);
  launch.more_params.resize(sizeof plan.args);
  std::memcpy(launch.more_params.data(), &plan.args, sizeof plan.args);
  launch.cluster = dim3(plan.cluster);
  out.push_back(std::move(launch));
}

constexpr Implementation kTable[] = {
    {"wgmma", fits_wgmma, launch_wgmma},
    {"mma", fits_mma, launch_mma},
    {"simt", fits_simt, launch_simt},
};

}  // namespace

std::span<const Implementation> attention_table() { return kTable; }

}  // namespace flashrt::cuda
