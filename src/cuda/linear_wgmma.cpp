// Tensor maps, grid and shared memory of the wgmma linear kernel.
#include "cuda/linear_wgmma.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "cuda/kernels/common/linear_instances.h"

namespace flashrt {
namespace {

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

struct Instance {
  LinearRows map;
  int rows, tokens;
};
#define FLASHRT_INSTANCE(map, rows, tokens) {LinearRows::map, rows, tokens},
constexpr Instance kInstances[] = {FLASHRT_LINEAR_INSTANCES(FLASHRT_INSTANCE)};
#undef FLASHRT_INSTANCE

// Clock cycles of one call, within about 10 % of what was measured on an H200. A k block costs the tensor
// cores rows·tokens/32 and shared memory 2·rows + tokens·(rows/64 + 1): TMA writes both operands, every 64
// rows read the tokens again.
double estimate(const LinearProblem& a, const LinearTactic& t, int sms) {
  // Larger clusters leave processors idle: not every group of processors is a multiple of them.
  const int clusters = (t.cluster() > 2 ? sms * 9 / 10 : sms) / t.cluster();
  const int units = ceil_div(a.m, t.tokens * t.cluster_tokens) * ceil_div(a.n, t.rows * t.cluster_rows);
  const int rounds = ceil_div(units, clusters), blocks = ceil_div(ceil_div(a.k, 64), t.split);
  const int row_tiles = linear_tile(t.rows, t.tokens).row_tiles;
  const double shared = 2.0 * t.rows + t.tokens * (t.rows / 64 + 1);
  const double block = std::max({t.rows * t.tokens / 32.0, shared, 330.0 /* latency */}) *
                       (row_tiles == 2 ? 1.07 : 1);  // three or four stages only
  const double epilogue = (900 + t.tokens * row_tiles * (a.rows == LinearRows::pair ? 10 : 6)) / t.split;
  const double exchange = 3500 * (t.split - 1);  // fits the measured splits 2 and 3 of 512 × 1152 × 4352
  return rounds * (blocks * block + epilogue) + exchange + 3500;
}

auto encode_function() {
  static const auto function = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                         &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
      throw std::runtime_error("the CUDA driver has no cuTensorMapEncodeTiled (needs 12.0 or later)");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }();
  return function;
}

// Strides (elements) are those of dimensions 1, 2, …; a box row fills one row of the swizzled shared tile.
CUtensorMap encode(const void* data, int rank, const cuuint64_t* size, const cuuint64_t* stride,
                   const cuuint32_t* box) {
  CUtensorMap map;
  cuuint64_t bytes[4];
  const cuuint32_t step[5] = {1, 1, 1, 1, 1};
  for (int i = 0; i + 1 < rank; ++i) bytes[i] = stride[i] * 2;
  const CUresult status = encode_function()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(data), size, bytes, box, step,
      CU_TENSOR_MAP_INTERLEAVE_NONE, box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled failed with code " + std::to_string(status) +
                             " for a matrix of " + std::to_string(size[1]) + " rows of " +
                             std::to_string(size[0]));
  return map;
}

CUtensorMap matrix_map(const void* data, int64_t rows, int64_t columns, int64_t stride, int box_rows,
                       int box_columns) {
  const cuuint64_t size[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
  return encode(data, 2, size, strides, box);
}

CUtensorMap weight_map(const LinearProblem& w, const LinearParams& p, const LinearTactic& tactic) {
  using U = cuuint64_t;
  const U k = w.k, n = w.n, ld = w.w_stride;
  const cuuint32_t rows = tactic.rows / tactic.cluster_tokens;
  if (w.rows == LinearRows::plain) return matrix_map(w.w, w.n, w.k, w.w_stride, rows, 64);
  // [groups][2 halves][8 rows][k]: halves are n/2 or head_dim/2 rows apart; groups beyond a half are never
  // asked for.
  const U half = (w.rows == LinearRows::pair ? w.n : p.head_dim) / 2;
  const U size[] = {k, 8, 2, w.rows == LinearRows::pair ? half / 8 : n / 8},
          stride[] = {ld, half * ld, 8 * ld};
  const cuuint32_t box[] = {64, 8, 2, rows / 16};
  return encode(w.w, 4, size, stride, box);
}

}  // namespace

std::string linear_refusal(const LinearProblem& a, const LinearParams& p, const LinearTactic& tactic) {
  const LinearTile tile = linear_tile(tactic.rows, tactic.tokens);
  const auto aligned = [](const void* data, int64_t stride) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % 8 == 0;
  };
  if (a.m <= 0 || a.n <= 0 || a.k <= 0) return "empty problem";
  const auto compiled = [&](const Instance& i) {
    return i.map == a.rows && i.rows == tactic.rows && i.tokens == tactic.tokens;
  };
  if (std::none_of(std::begin(kInstances), std::end(kInstances), compiled)) return "no such tile is compiled";
  if (tactic.resident < 1 || tactic.resident > tile.residents()) return "too many blocks per SM";
  if (tile.stages(tactic.resident) < 2) return "tile too large for shared memory";
  if (!aligned(a.x, a.x_stride) || !aligned(a.w, a.w_stride)) return "operands need 16-byte aligned rows";
  if (!aligned(p.out, p.out_stride)) return "the output needs 16-byte aligned rows";
  if (p.residual && !aligned(p.residual, p.residual_stride)) return "the residual needs 16-byte aligned rows";
  if (tactic.cluster() > 8) return "more than 8 blocks in a cluster";
  const int slice = tactic.rows / tactic.cluster_tokens;
  if ((tactic.cluster_tokens & (tactic.cluster_tokens - 1)) || slice % 16)
    return "weight tile not divisible by the cluster";
  if (tactic.split > ceil_div(a.k, 64 * tile.depth())) return "more splits than stages of k";
  const int share = ceil_div(tactic.tokens / 8, tactic.split);
  if ((tactic.split - 1) * share * tile.row_tiles * tile.warpgroups * 2048 >
      tile.stages(tactic.resident) * tile.stage_bytes())
    return "partial sums do not fit the ring";
  if (a.rows != LinearRows::plain && (p.residual || p.out_stat_slots))
    return "residual and statistics need plain rows";
  if (a.rows == LinearRows::plain) return a.n % 8 ? "n must be a multiple of 8" : "";
  if (a.rows == LinearRows::pair)
    return a.n % 16 ? "a gate-up matrix needs halves of a multiple of 8 rows" : "";
  if (p.head_dim % 64 || a.n != (p.query_heads + 2 * p.kv_heads) * p.head_dim)
    return "head_dim must be a multiple of 64, n = (query_heads + 2 kv_heads)·head_dim";
  if (p.head_dim % slice) return "a weight tile must lie within a head";
  return aligned(p.keys, p.kv_stride) && aligned(p.values, p.kv_stride) ? ""
                                                                        : "caches need 16-byte aligned rows";
}

std::vector<LinearTactic> linear_candidates(const LinearProblem& a, const LinearParams& epilogue, int sms) {
  std::vector<std::pair<double, LinearTactic>> found;
  for (const Instance& i : kInstances)
    for (int form = 0; form <= 4; ++form) {  // two blocks per SM, or a split
      const int split = std::max(1, form), resident = form == 0 ? 2 : 1;
      const LinearTactic tactic{.rows = i.rows, .tokens = i.tokens, .split = split, .resident = resident};
      const int blocks = ceil_div(a.m, i.tokens) * ceil_div(a.n, i.rows) * split;
      if (i.map != a.rows || !linear_refusal(a, epilogue, tactic).empty()) continue;
      if (split > 1 && blocks > (split > 2 ? sms * 9 / 10 : sms)) continue;  // one round only
      found.emplace_back(estimate(a, tactic, sms), tactic);
    }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& x, const auto& y) { return x.first < y.first; });
  std::vector<LinearTactic> tactics;
  for (const auto& [cycles, tactic] : found) tactics.push_back(tactic);
  return tactics;
}

LinearLaunch plan_linear(const LinearProblem& a, const LinearParams& epilogue, const LinearTactic& tactic,
                         int max_clusters) {
  if (const std::string refusal = linear_refusal(a, epilogue, tactic); !refusal.empty())
    throw std::invalid_argument("linear [" + std::to_string(a.m) + ", " + std::to_string(a.n) + ", " +
                                std::to_string(a.k) + "]: " + refusal);
  static constexpr const char* kRowNames[] = {"plain", "pair", "heads"};
  const LinearTile tile = linear_tile(tactic.rows, tactic.tokens);
  LinearLaunch launch{.kernel = std::string("linear_sm90_bf16_") + kRowNames[static_cast<int>(a.rows)] +
                                "_r" + std::to_string(tactic.rows) + "_n" + std::to_string(tactic.tokens),
                      .cluster = tactic.cluster(),
                      .threads = tile.threads(),
                      .shared_bytes = tile.shared_bytes(tactic.resident),
                      .params = epilogue};
  LinearParams& p = launch.params;
  p.m = a.m;
  p.n = a.n;
  const int blocks = ceil_div(a.k, 64 * tile.depth());
  const auto magic = [](int d) { return d > 1 ? static_cast<uint32_t>((1ull << 32) / d) + 1 : 0u; };
  p.k_share = blocks / tactic.split;
  p.k_extra = blocks % tactic.split;
  p.row_groups = ceil_div(a.n, tactic.rows * tactic.cluster_rows);
  p.token_groups = ceil_div(a.m, tactic.tokens * tactic.cluster_tokens);
  p.cluster_rows = tactic.cluster_rows;
  p.cluster_tokens = tactic.cluster_tokens;
  p.token_groups_magic = magic(p.token_groups);
  p.head_dim_magic = magic(p.head_dim);
  p.split = tactic.split;
  p.split_groups = ceil_div(tactic.tokens / 8, tactic.split);
  p.stages = tile.stages(tactic.resident);
  p.token_slice = ceil_div(tactic.tokens / 8, tactic.cluster_rows) * 8;
  if (p.residual && p.residual_period == 0) p.residual_period = a.m;
  p.weights = weight_map(a, p, tactic);
  p.tokens = matrix_map(a.x, a.m, a.k, a.x_stride, p.token_slice, 64);
  const bool plain = a.rows == LinearRows::plain, heads = a.rows == LinearRows::heads;
  // Without query heads nothing is written through the maps of the output.
  const int columns = plain ? a.n : heads ? std::max(1, p.query_heads) * p.head_dim : a.n / 2;
  const auto out_map = [&](int tokens) {
    return matrix_map(p.out, a.m, columns, p.out_stride, tokens, plain ? 64 : 32);
  };
  int chunk = tile.chunk_tokens(), tail = tactic.tokens % chunk;
  if (tile.buffers() == 1 && p.split > 1) {
    chunk = 8 * p.split_groups;
    tail = tactic.tokens % chunk;
  }
  p.out_chunk = out_map(chunk);
  p.out_tail = tail > 0 ? out_map(tail) : p.out_chunk;
  p.out_group = out_map(8);
  if (heads) {  // rows of the caches: more than any position, the kernel stays within m
    p.key_group = matrix_map(p.keys, 1 << 24, p.kv_heads * p.head_dim, p.kv_stride, 8, 32);
    p.value_group = matrix_map(p.values, 1 << 24, p.kv_heads * p.head_dim, p.kv_stride, 8, 32);
  }

  // A split tile uses its ring for the exchange, so its cluster does one tile; others take tiles in equal
  // rounds.
  const int units = p.row_groups * p.token_groups;
  const int rounds = tactic.split > 1 ? 1 : ceil_div(units, std::max(1, max_clusters));
  // A cluster that keeps its tokens from tile to tile need not find their scales again.
  int clusters = ceil_div(units, rounds);
  if (rounds > 1 && p.token_groups < max_clusters) {
    const int keeping = ceil_div(clusters, p.token_groups) * p.token_groups;
    if (keeping <= max_clusters) clusters = keeping;
  }
  launch.grid = clusters * launch.cluster;
  return launch;
}

}  // namespace flashrt
