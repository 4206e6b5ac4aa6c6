// Launch geometry and tensor maps of the sm_90 attention kernels.
#include "cuda/attention_wgmma.h"

#include <algorithm>
#include <cstring>

namespace flashrt {
namespace {

struct SplitInstance {
  const char* name;
  int head_dim, value_columns, groups, keys, k_stages, v_stages;
};
#define FLASHRT_ROW(name, ...) {#name, __VA_ARGS__},
constexpr SplitInstance kSplits[] = {FLASHRT_ATTENTION_SPLIT(FLASHRT_ROW)};
struct SegmentInstance {
  const char* name;
  int head_dim, groups;
};
constexpr SegmentInstance kSegments[] = {FLASHRT_ATTENTION_SEGMENT(FLASHRT_ROW)};
#undef FLASHRT_ROW
#define FLASHRT_NAME(name, ...) #name,
constexpr const char* kNames[] = {FLASHRT_ATTENTION_SPLIT(FLASHRT_NAME)
                                      FLASHRT_ATTENTION_SEGMENT(FLASHRT_NAME)};
#undef FLASHRT_NAME

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// The driver's encoder, found at run time: no link dependency on libcuda.
using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
Encode find_encoder() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
  return status == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry)
                                                                       : nullptr;
}

// [rows, heads, head_dim] seen as boxes of `columns` columns of `box_heads` heads of `box_rows` rows.
bool encode(CUtensorMap* map, const void* base, int head_dim, int heads, int rows, int ld, int columns,
            int box_heads, int box_rows) {
  static const Encode encoder = find_encoder();
  if (!encoder) return false;
  const cuuint64_t extent[3] = {cuuint64_t(head_dim), cuuint64_t(heads), cuuint64_t(rows)};
  const cuuint64_t pitch[2] = {cuuint64_t(head_dim) * 2, cuuint64_t(ld) * 2};
  const cuuint32_t box[3] = {cuuint32_t(columns), cuuint32_t(box_heads), cuuint32_t(box_rows)};
  const cuuint32_t step[3] = {1, 1, 1};
  const auto swizzle = columns == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_32B;
  return encoder(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(base), extent, pitch, box, step,
                 CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

const char* invalid(const AttentionParams& p) {
  if (p.heads <= 0 || p.kv_heads <= 0 || p.heads % p.kv_heads) return "heads must be a multiple of kv_heads";
  if (p.rows_q <= 0 || p.rows_k <= 0 || p.segments <= 0) return "rows and segments must be positive";
  if (!(p.scale > 0)) return "scale must be positive";
  if (p.lead_rows < 0 || p.lead_rows > p.rows_q) return "lead_rows must lie in 0 … rows_q";
  if ((p.ld_q | p.ld_k | p.ld_v | p.ld_out) % 8) return "leading dimensions must be multiples of 8";
  return nullptr;
}

const char* misaligned(const AttentionParams& p) {
  for (const void* base : {p.q, p.k, p.v, static_cast<const void*>(p.out)}) {
    if (!base || reinterpret_cast<uintptr_t>(base) % 16) return "operands must be 16-byte aligned";
  }
  return nullptr;
}

bool fits(const SplitInstance& s, const AttentionParams& p, int splits) {
  const int merge = attention_merge_bytes(s.value_columns, s.groups, splits);
  constexpr int kMergeable[] = {1, 2, 3, 4, 6, 8};  // as instantiated in the kernel
  return std::ranges::find(kMergeable, splits) != std::end(kMergeable) && p.head_dim == s.head_dim &&
         p.heads / p.kv_heads <= 64 * s.groups &&
         merge <= s.groups * 64 * s.head_dim * 2 + s.k_stages * s.keys * s.head_dim * 2;
}
bool fits(const SegmentInstance& s, const AttentionParams& p) {
  return p.head_dim == s.head_dim && p.rows_k <= kAttentionSegmentKeys;
}

const char* prepare_split(const SplitInstance& s, const AttentionParams& p, const AttentionTactic& tactic,
                          AttentionLaunch& l) {
  if (tactic.splits < 1 || !fits(s, p, tactic.splits))
    return "the split kernel does not support this problem";
  const int group = p.heads / p.kv_heads, most = 64 * s.groups / group;
  const int tokens = tactic.tile_tokens ? std::min(tactic.tile_tokens, most) : std::min(most, p.rows_q);
  const int tiles = ceil_div(p.rows_q, tokens);
  l.cluster = unsigned(tactic.splits);
  l.grid = dim3(tiles * l.cluster, p.kv_heads * (s.head_dim / s.value_columns), p.segments);
  l.block = dim3(s.groups * 128 + (s.groups > 1 ? 128 : 32));
  l.smem =
      unsigned(attention_split_smem(s.head_dim, s.value_columns, s.groups, s.keys, s.k_stages, s.v_stages));
  l.args = {p, tokens, tactic.splits};
  const int rows_q = p.rows_q * p.segments, rows_k = p.rows_k * p.segments;
  const bool ok = encode(&l.maps.q, p.q, p.head_dim, p.heads, rows_q, p.ld_q, 64, group, tokens) &&
                  encode(&l.maps.k, p.k, p.head_dim, p.kv_heads, rows_k, p.ld_k, 64, 1, s.keys) &&
                  encode(&l.maps.v, p.v, p.head_dim, p.kv_heads, rows_k, p.ld_v, 64, 1, s.keys);
  return ok ? nullptr : "the driver refused a tensor map";
}

const char* prepare_segment(const SegmentInstance& s, const AttentionParams& p, AttentionLaunch& l) {
  if (!fits(s, p)) return "the segment kernel does not support this problem";
  l.cluster = 1;
  l.grid = dim3(ceil_div(p.rows_q, 64 * s.groups), p.heads, p.segments);
  l.block = dim3(s.groups * 128);
  l.smem = unsigned(attention_segment_smem(s.head_dim, s.groups));
  l.args = {p, 64 * s.groups, 1};
  const int rows_q = p.rows_q * p.segments, rows_k = p.rows_k * p.segments, box = kAttentionSegmentKeys / 2;
  bool ok = true;
  for (const int columns : {64, 16}) {
    AttentionMaps& m = l.maps;
    CUtensorMap *q = columns == 64 ? &m.q : &m.q_tail, *k = columns == 64 ? &m.k : &m.k_tail,
                *v = columns == 64 ? &m.v : &m.v_tail;
    ok = ok && encode(q, p.q, p.head_dim, p.heads, rows_q, p.ld_q, columns, 1, 64 * s.groups) &&
         encode(k, p.k, p.head_dim, p.kv_heads, rows_k, p.ld_k, columns, 1, box) &&
         encode(v, p.v, p.head_dim, p.kv_heads, rows_k, p.ld_v, columns, 1, box);
  }
  return ok ? nullptr : "the driver refused a tensor map";
}

const SplitInstance& split_instance(const char* name) {
  return *std::ranges::find_if(kSplits, [&](const SplitInstance& s) { return !std::strcmp(s.name, name); });
}

// Row tiles of equal height.
int tiles_of(const SplitInstance& s, const AttentionParams& p) {
  return ceil_div(p.rows_q, 64 * s.groups / (p.heads / p.kv_heads));
}
AttentionTactic spread(const SplitInstance& s, const AttentionParams& p, int splits) {
  return {s.name, splits, ceil_div(p.rows_q, tiles_of(s, p))};
}

// Blocks of all clusters of `splits` that one H200 (132 SMs) holds at once, one block per SM: clusters do not
// cross the boundaries of its groups of SMs.
int resident_blocks(int splits) {
  switch (splits) {
    case 1:
    case 2: return 132;
    case 3: return 117;
    case 6: return 102;
    default: return 120;
  }
}

// What the measurements in tune/notes_attention.md say: few rows take as many blocks as possible, many rows
// take as many splits as still run at once.
AttentionTactic preferred_split(const AttentionParams& p) {
  const int columns = p.kv_heads * p.segments;
  if (p.head_dim == 256 && p.heads / p.kv_heads <= 64) {
    const SplitInstance& slim = split_instance("attention_d256_rows64_slim");
    const SplitInstance& narrow =
        split_instance(p.rows_k <= 768 ? "attention_d256_rows64_keys96" : "attention_d256_rows64_keys128");
    for (const SplitInstance* s : {&slim, &narrow}) {
      const int slices = s->head_dim / s->value_columns;
      if (tiles_of(*s, p) * slices * columns * 8 <= resident_blocks(8)) return spread(*s, p, 8);
    }
  }
  const SplitInstance& s =
      split_instance(p.head_dim == 256 ? "attention_d256_rows128" : "attention_d128_rows128");
  int splits = 1;
  for (const int more : {2, 3, 4, 8}) {
    if (more > 3 && tiles_of(s, p) > 1) break;  // longer merges than they save
    if (tiles_of(s, p) * columns * more <= resident_blocks(more)) splits = more;
  }
  return spread(s, p, splits);
}

}  // namespace

int attention_wgmma_tactics(const AttentionParams& p, std::span<AttentionTactic> out) {
  if (invalid(p)) return 0;
  size_t n = 0;
  const auto add = [&](const AttentionTactic& t) {
    if (n < out.size()) out[n++] = t;
  };
  for (const SegmentInstance& s : kSegments) {
    if (fits(s, p)) add({s.name});
  }
  if (n == std::size(kSegments) && p.segments * p.heads * ceil_div(p.rows_q, 64) > 132)
    std::swap(out[0], out[1]);
  if (p.head_dim != 256 && p.head_dim != 128) return int(n);
  if (p.heads / p.kv_heads > 128) return int(n);
  const AttentionTactic best = preferred_split(p);
  add(best);
  for (const SplitInstance& s : kSplits) {
    for (int splits = 1; splits <= 8; ++splits) {
      if (fits(s, p, splits) && !(s.name == best.kernel && splits == best.splits)) add(spread(s, p, splits));
    }
  }
  return int(n);
}

const char* attention_wgmma_prepare(const AttentionParams& p, const AttentionTactic& tactic,
                                    AttentionLaunch& launch) {
  if (const char* why = invalid(p)) return why;
  if (const char* why = misaligned(p)) return why;
  std::memset(&launch.maps, 0, sizeof launch.maps);
  for (const SplitInstance& s : kSplits) {
    if (!std::strcmp(s.name, tactic.kernel)) {
      launch.kernel = s.name;
      return prepare_split(s, p, tactic, launch);
    }
  }
  for (const SegmentInstance& s : kSegments) {
    if (!std::strcmp(s.name, tactic.kernel)) {
      launch.kernel = s.name;
      return prepare_segment(s, p, launch);
    }
  }
  return "no attention kernel of this name";
}

std::span<const char* const> attention_wgmma_kernels() { return kNames; }

}  // namespace flashrt
