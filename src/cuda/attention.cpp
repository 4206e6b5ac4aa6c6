// Implementations of attention.
#include "ops/attention.h"

#include <cmath>

#include "cuda/kernels/common/tile_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool half_types(const Problem& p) {
  return is_half(p.in_type(0)) && p.in_type(1) == p.in_type(0) && p.in_type(2) == p.in_type(0) &&
         is_element(p.out_type(0));
}
bool element_types(const Problem& p) {
  return is_element(p.in_type(0)) && is_element(p.in_type(1)) && is_element(p.in_type(2)) && is_element(p.out_type(0));
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
  const dim3 grid(unsigned(packed_rows + 63) / 64, unsigned(params.kv_heads), unsigned(p.line.attrs<AttentionAttrs>().segments));
  const unsigned shared = unsigned((64 + 4 * instance.keys) * (instance.width + 8) * 2);
  const char* kernel = p.in_type(0) == DType::bf16 ? instance.bf16 : instance.f16;
  out.push_back(Launch::of(kernel, grid, 128, params, shared));
}

bool fits_simt(const Problem& p) { return element_types(p) && p.line.attrs<AttentionAttrs>().head_dim <= 256; }

void launch_simt(const Problem& p, std::vector<Launch>& out) {
  const AttentionTileParams params = tile_params(p);
  const dim3 grid(unsigned(params.rows * params.heads + 3) / 4, unsigned(p.line.attrs<AttentionAttrs>().segments));
  out.push_back(Launch::of("attention_simt", grid, 128, params));
}

constexpr Implementation kTable[] = {
    {"mma", fits_mma, launch_mma},
    {"simt", fits_simt, launch_simt},
};

}  // namespace

std::span<const Implementation> attention_table() { return kTable; }

}  // namespace flashrt::cuda
