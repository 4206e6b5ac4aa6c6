// Implementations of the fused decode attention.
#include "ops/attention_step.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "cuda/device.h"
#include "cuda/kernels/common/attention_step_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

constexpr int64_t kMostSplits = 64;

// Key ranges that share a key head: together about one block per multiprocessor.
int splits_of(const Problem& p) {
  const auto a = p.line.attrs<AttentionStepAttrs>();
  const int64_t tiles =
      (p.in(kStepKCache).rows + attention_step_keys(a.head_dim) - 1) / attention_step_keys(a.head_dim);
  return int(std::clamp<int64_t>(p.device.processors / a.kv_heads, 1, std::min(kMostSplits, tiles)));
}

bool fits_step(const Problem& p) {
  const auto a = p.line.attrs<AttentionStepAttrs>();
  const DType type = p.in_type(kStepQkv);
  if (p.device.sm / 10 != 9 || !is_half(type) || p.out_type(0) != type || p.in_type(kStepKCache) != type ||
      p.in_type(kStepVCache) != type)
    return false;
  if (a.head_dim != 64 && a.head_dim != 128 && a.head_dim != 256) return false;
  if (a.heads / a.kv_heads > 8 || p.in(kStepQkv).rows != 1) return false;
  for (int norm : {kStepQNorm, kStepKNorm}) {
    if (p.has(size_t(norm)) && p.in_type(size_t(norm)) != DType::f32) return false;
  }
  // Read, like the cached keys, before the predecessor has finished: no line of this program may have written
  // it.
  const Kind position = p.program.info(p.program.root(p.line.in[kStepPosition])).kind;
  return (position == Kind::input || position == Kind::state) && p.in_type(kStepTable) == DType::f32;
}

int64_t partial_bytes(const Problem& p) {
  const auto a = p.line.attrs<AttentionStepAttrs>();
  return (int64_t(a.heads) * splits_of(p) * (a.head_dim + 2) * 4 + 255) / 256 * 256;
}

size_t workspace_step(const Problem& p) {
  return size_t(partial_bytes(p)) + size_t(p.line.attrs<AttentionStepAttrs>().kv_heads) * 4;
}

bool encode_cache(CUtensorMap* map, void* data, const Problem& p) {
  const auto a = p.line.attrs<AttentionStepAttrs>();
  const Shape cache = p.in(kStepKCache);
  const cuuint64_t extent[2] = {cuuint64_t(cache.cols), cuuint64_t(cache.rows)};
  const cuuint64_t pitch[1] = {cuuint64_t(cache.cols) * 2};
  const cuuint32_t box[2] = {cuuint32_t(a.head_dim), cuuint32_t(attention_step_keys(a.head_dim))};
  const cuuint32_t step[2] = {1, 1};
  const auto type = p.in_type(kStepKCache) == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                          : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  return tensor_map_function()(map, type, 2, data, extent, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                               CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

void launch_step(const Problem& p, std::vector<Launch>& out) {
  const auto a = p.line.attrs<AttentionStepAttrs>();
  const int group = a.heads / a.kv_heads, instance = int(std::bit_ceil(unsigned(group)));
  AttentionStepParams s{};
  if (!encode_cache(&s.k, p.out_data<void>(1), p) || !encode_cache(&s.v, p.out_data<void>(2), p))
    fail_device("{}: attention: the driver refused a tensor map", to_string(p.line.at));
  s.qkv = p.in_data<const void>(kStepQkv);
  s.table = p.in_data<const float>(kStepTable);
  s.position = p.in_data<const int>(kStepPosition);
  s.k_cache = p.out_data<void>(1), s.v_cache = p.out_data<void>(2), s.out = p.out_data<void>(0);
  s.q_norm = p.in_data<const float>(kStepQNorm), s.k_norm = p.in_data<const float>(kStepKNorm);
  s.partials = static_cast<float*>(p.workspace);
  s.arrived = reinterpret_cast<int*>(static_cast<std::byte*>(p.workspace) + partial_bytes(p));
  s.heads = a.heads, s.kv_heads = a.kv_heads, s.group = group;
  s.capacity = int(p.in(kStepKCache).rows), s.window = a.window, s.splits = splits_of(p);
  // Up to a few thousand keys a small ring: then the products before and behind are resident beside this
  // kernel, and their weights arrive meanwhile.
  s.stages = s.capacity <= 4096 ? 2 : a.head_dim == 256 ? 3 : 5;
  s.barriers_at = attention_step_barriers(a.head_dim, instance, s.stages);
  s.eps = a.eps;
  s.scale_log2 = (a.scale != 0 ? a.scale : 1.f / std::sqrt(float(a.head_dim))) * 1.44269504089f;
  const std::string kernel =
      fmt::format("attention_step_{}_{}_g{}", name_of(p.in_type(kStepQkv)), a.head_dim, instance);
  out.push_back(Launch::of(kernel, dim3(unsigned(s.splits), unsigned(a.kv_heads)), kAttentionStepThreads, s,
                           unsigned(s.barriers_at + 128)));
}

constexpr Implementation kTable[] = {
    {"splits_sm90", fits_step, launch_step, workspace_step},
};

}  // namespace

std::span<const Implementation> attention_step_table() { return kTable; }

}  // namespace flashrt::cuda
