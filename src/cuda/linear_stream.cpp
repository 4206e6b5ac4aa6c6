// Launch geometry of the streaming linear kernels.
#include "cuda/linear_stream.h"

#include <algorithm>
#include <bit>
#include <cstdio>

namespace flashrt {
namespace {

constexpr int kSharedLimit = 227 * 1024;
constexpr int kBarrierBytes = (5 + 64) * 8;

int divide_up(int a, int b) { return (a + b - 1) / b; }

// A row-major bf16 matrix read in boxes of 64 columns × `box_rows`, 128-byte swizzle, zeros outside.
bool encode_matrix(CUtensorMap* map, const void* data, int rows, int columns, int box_rows,
                   decltype(&cuTensorMapEncodeTiled) encode) {
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(columns) * 2};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), dims, strides, box, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

const char* name_of(StreamEpilogue e) {
  constexpr const char* kNames[] = {"plain", "residual", "pair", "qkv"};
  return kNames[static_cast<int>(e)];
}

// Fills the geometry; returns the shared memory it needs.
int lay_out(LinearStreamParams& p, const StreamTactic& t) {
  const int features = 64 * t.row_groups;
  p.tiles = stream_tiles(p, t.row_groups);
  p.clusters = t.clusters;
  p.split_shift = std::countr_zero(static_cast<unsigned>(t.splits));
  p.kb_total = divide_up(p.k, 64);
  p.kb_split = divide_up(p.kb_total, t.splits);
  p.stages = t.stages;
  p.trigger = t.trigger;
  p.pairs_max = divide_up(divide_up(p.m, 2), t.splits);
  p.inv_k = 1.f / static_cast<float>(p.k);
  p.tiles_per_head_shift =
      p.epilogue == StreamEpilogue::qkv ? std::countr_zero(static_cast<unsigned>(p.head_dim / features)) : 0;
  p.xs_at = t.stages * features * 128;
  p.slots_at = p.xs_at + p.kb_split * t.rows * 128;
  p.barriers_at = p.slots_at + (p.clusters < p.tiles ? 2 : 1) * t.splits * p.pairs_max * features * 8;
  p.vectors_at = p.barriers_at + kBarrierBytes + 8;  // 16-byte aligned
  return p.vectors_at + (p.norm_scale != nullptr ? p.kb_split * 64 * 8 + 256 : 0);
}

const char* invalid(const LinearStreamParams& p, const StreamTactic& t) {
  if (p.m < 1 || p.m > t.rows) return "rows: m must be 1 … the instance's rows (64 at most)";
  if (p.k < 8 || p.k % 8 != 0 || p.n < 8 || p.n % 8 != 0) return "n and k must be positive multiples of 8";
  if (p.n % 16 != 0 && p.epilogue == StreamEpilogue::pair) return "pair: n must be a multiple of 16";
  if (!std::has_single_bit(static_cast<unsigned>(t.splits)) || t.splits > 8)
    return "splits must be 1, 2, 4 or 8";
  const int kb = divide_up(p.k, 64);
  if ((t.splits - 1) * divide_up(kb, t.splits) >= kb) return "more splits than blocks of k";
  if (t.row_groups != 1 && (t.row_groups != 2 || p.epilogue != StreamEpilogue::pair || t.rows < 16))
    return "row groups must be 1 (or 2 for pair and at least 16 rows)";
  if (stream_tiles(p, t.row_groups) == 0)
    return "qkv: head_dim must be a power of two, at least 64·row groups";
  if (t.clusters < 1 || t.clusters > stream_tiles(p, t.row_groups)) return "clusters must be 1 … tiles";
  if (t.stages < 1 || t.stages > 32) return "stages must be 1 … 32";
  if (t.stages < 2 &&
      t.clusters * divide_up(kb, t.splits) < stream_tiles(p, t.row_groups) * divide_up(kb, t.splits))
    return "one stage cannot hold several loads";
  if (t.stages < 2 && divide_up(kb, t.splits) > 1) return "one stage cannot hold several loads";
  LinearStreamParams copy = p;
  if (lay_out(copy, t) > kSharedLimit)
    return "the block's slice of the activations and the ring exceed shared memory: fewer rows or stages, "
           "more splits";
  return nullptr;
}

}  // namespace

int stream_tiles(const LinearStreamParams& p, int row_groups) {
  const int half = 32 * row_groups;
  if (p.epilogue == StreamEpilogue::pair) return divide_up(p.n / 2, half);
  if (p.epilogue == StreamEpilogue::qkv)
    return std::has_single_bit(static_cast<unsigned>(p.head_dim)) && p.head_dim >= 2 * half ? p.n / (2 * half)
                                                                                            : 0;
  return divide_up(p.n, 2 * half);
}

int stream_stat_slots(const LinearStreamParams& p) { return stream_tiles(p, 1); }

StreamTactic choose_stream_tactic(const LinearStreamParams& p, int sms) {
  constexpr int kRows[] = {8, 16, 32, 56, 64};
  constexpr int kActivationLimit = 120 * 1024;  // bytes of a block's slice that still leave room for a ring
  StreamTactic t{.rows = 64, .row_groups = 1, .splits = 1};
  for (int rows : kRows)
    if (rows >= p.m) {
      t.rows = rows;
      break;
    }
  const int kb = divide_up(p.k, 64), single = stream_tiles(p, 1);
  // Gate-up of about one tile per multiprocessor: 128-row tiles halve the activations a block reads.
  if (p.epilogue == StreamEpilogue::pair && p.m > 8 && single * 4 >= sms * 3 && single <= sms)
    t.row_groups = 2;
  const int tiles = stream_tiles(p, t.row_groups);
  const auto possible = [&](int splits) { return splits <= 8 && (splits - 1) * divide_up(kb, splits) < kb; };
  const auto activations = [&] { return t.rows * divide_up(kb, t.splits) * 128; };
  // One wave of blocks, at most a quarter more than multiprocessors; else blocks that stay and take several
  // tiles, with their slice of the activations in shared memory.
  while (possible(2 * t.splits) && tiles * t.splits * 8 <= sms * 5) t.splits *= 2;
  if (p.m > 16 && p.epilogue == StreamEpilogue::residual && t.splits == 8) t.splits = 4;
  const bool one_wave = tiles * t.splits * 4 <= sms * 5;
  if (!one_wave && possible(2)) t.splits = 2;
  while (possible(2 * t.splits) && activations() > kActivationLimit) t.splits *= 2;
  // Clusters of 4 and 8 do not tile every GPC: about ten elevenths of the multiprocessors are usable.
  const int resident = t.splits <= 2 ? sms / t.splits : sms * 10 / 11 / t.splits;
  t.clusters = tiles * t.splits * 4 <= sms * 5 ? tiles : std::min(tiles, resident);
  const int loads = divide_up(tiles, t.clusters) * divide_up(kb, t.splits);
  t.stages = std::min({loads, 32, (!one_wave ? 144 : p.m > 16 ? 96 : 128) * 1024 / (8192 * t.row_groups)});
  LinearStreamParams copy = p;
  while (t.stages > 2 && lay_out(copy, t) > kSharedLimit) --t.stages;
  t.trigger = t.stages < loads ? t.stages : 0;
  return t;
}

std::vector<StreamTactic> stream_candidates(const LinearStreamParams& p, int sms) {
  std::vector<StreamTactic> list = {choose_stream_tactic(p, sms)};
  const auto add = [&](int groups, int splits, int clusters, int ring_bytes, bool late) {
    StreamTactic t{.rows = groups == 2 ? std::max(list[0].rows, 16) : list[0].rows,
                   .row_groups = groups,
                   .splits = splits,
                   .clusters = clusters};
    if (clusters < 1 || clusters * splits > 4 * sms) return;  // slices too thin to be worth a launch
    const int tiles = stream_tiles(p, groups);
    const int loads = divide_up(tiles, clusters) * divide_up(divide_up(p.k, 64), splits);
    t.stages = std::min({loads, 32, ring_bytes / (8192 * groups)});
    t.trigger = late ? t.stages : 0;
    if (invalid(p, t) == nullptr && std::ranges::find(list, t) == list.end()) list.push_back(t);
  };
  for (int groups : {1, 2}) {
    for (int splits : {1, 2, 4, 8}) {
      const int tiles = stream_tiles(p, groups), resident = std::min(tiles, sms * 10 / 11 / splits);
      for (int kilobytes : {48, 96, 144}) {
        for (int clusters : {tiles, resident}) {
          for (bool late : {false, true}) add(groups, splits, clusters, kilobytes * 1024, late);
        }
      }
    }
  }
  return list;
}

StreamLaunch plan_linear_stream(const LinearStreamParams& problem, const void* weights,
                                const StreamTactic& tactic, decltype(&cuTensorMapEncodeTiled) encode) {
  StreamLaunch launch{.error = invalid(problem, tactic), .params = problem};
  if (launch.error != nullptr) return launch;
  LinearStreamParams& p = launch.params;
  launch.shared_bytes = lay_out(p, tactic);
  const bool paired = p.epilogue == StreamEpilogue::pair || p.epilogue == StreamEpilogue::qkv;
  if (!encode_matrix(&p.w, weights, p.n, p.k, (paired ? 32 : 64) * tactic.row_groups, encode))
    launch.error = "no tensor map for the weights (16-byte aligned?)";
  if (p.norm_scale == nullptr && !encode_matrix(&p.x, p.x_rows, p.m, p.k, tactic.rows, encode))
    launch.error = "no tensor map for the activations (16-byte aligned?)";
  std::snprintf(launch.kernel, sizeof launch.kernel, "linear_stream_%s_n%d_r%d", name_of(p.epilogue),
                tactic.rows, tactic.row_groups);
  launch.cluster = tactic.splits;
  launch.grid = tactic.clusters * tactic.splits;
  launch.block = (tactic.row_groups * 4 + (tactic.rows <= 16 || tactic.row_groups == 2 ? 5 : 9)) * 32;
  return launch;
}

}  // namespace flashrt
