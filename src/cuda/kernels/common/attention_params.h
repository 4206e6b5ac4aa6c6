// Arguments of the attention kernels, shared by the host launchers and the device code; plain C++.
#pragma once
#include <cuda.h>

#include <cstdint>

namespace flashrt {

// out[r, h] = sum over c < limit(r) of softmax_c(scale · q[r, h]·k[c, g]) · v[c, g], with g = h / (heads /
// kv_heads). All tensors are bf16; `ld_*` is the distance of two rows in elements, a multiple of 8 (packed
// q|k|v is read in place: pass the column offset in the pointer). Rows form `segments` equal runs that attend
// only to their own keys.
struct AttentionParams {
  const void* q;  // [segments · rows_q, heads · head_dim]
  const void* k;  // [segments · rows_k, kv_heads · head_dim]
  const void* v;  // [segments · rows_k, kv_heads · head_dim]
  void* out;      // [segments · rows_q, heads · head_dim]
  int32_t ld_q, ld_k, ld_v, ld_out;
  int32_t rows_q, rows_k;  // per segment; rows_k is the capacity
  int32_t segments = 1;
  int32_t heads, kv_heads, head_dim;
  int32_t key_base;                 // valid keys per segment = key_base + (length ? *length : 0)
  const int32_t* length = nullptr;  // device memory
  int32_t causal = 0;               // row r sees keys up to and including keys − rows_q + r
  int32_t lead_rows = 0;  // else rows r < lead_rows see only the first keys − rows_q + lead_rows keys
  float scale;            // > 0, usually head_dim^-½
  // Promise: keys [0, keys − rows_q) and *length were written by kernels that had finished before the
  // predecessor of this launch could start, so they may be read before the predecessor's completion is
  // awaited.
  int32_t settled_prefix = 0;
};

// Keys visible to row r of a segment of `keys` valid keys; non-decreasing in r.
constexpr int32_t attention_limit(const AttentionParams& p, int32_t keys, int32_t row) {
  int32_t limit = keys;
  if (p.causal) {
    limit = keys - p.rows_q + row + 1;
  } else if (row < p.lead_rows) {
    limit = keys - p.rows_q + p.lead_rows;
  }
  return limit < 0 ? 0 : limit > keys ? keys : limit;
}

// Copy-engine views of the operands, made by the host (attention_wgmma.cpp) for one tile shape. The tails are
// the columns beyond 64 of head dimensions that are no multiple of 64.
struct AttentionMaps {
  CUtensorMap q, k, v, q_tail, k_tail, v_tail;
};

// The second kernel argument. The tile fields are used by the split kernel only.
struct AttentionArgs {
  AttentionParams params;
  int32_t tile_tokens;  // query tokens per block: tile_tokens · heads / kv_heads packed rows
  int32_t splits;       // key ranges per row tile: blocks of one cluster that merge their results
};

// Instances of the split kernel: X(name, head_dim, value columns per block, warpgroups, keys per tile, key
// stages, value stages).
#define FLASHRT_ATTENTION_SPLIT(X)                         \
  X(attention_d256_rows128, 256, 256, 2, 80, 2, 2)         \
  X(attention_d256_rows64_keys96, 256, 128, 1, 96, 1, 1)   \
  X(attention_d256_rows64_keys128, 256, 128, 1, 128, 1, 1) \
  X(attention_d256_rows64_slim, 256, 64, 1, 128, 1, 1)     \
  X(attention_d128_rows128, 128, 128, 2, 128, 2, 2)        \
  X(attention_d128_rows64, 128, 128, 1, 128, 2, 2)

// Dynamic shared memory of an instance: q, key ring, value ring, barriers, slack for 1,024-byte alignment.
constexpr int32_t attention_split_smem(int d, int v, int groups, int keys, int k_stages, int v_stages) {
  return groups * 64 * d * 2 + keys * d * 2 * k_stages + keys * v * 2 * v_stages + 256 + 1024;
}

// Bytes of the merge area, which reuses q and the key ring once the scores are done: the other splits' parts
// of the 16-column units a block owns in bf16, then (maximum, sum) of every split and row.
constexpr int32_t attention_merge_bytes(int v, int groups, int splits) {
  const int units = v / 16, most = (units + splits - 1) / splits;
  return (splits - 1) * most * groups * 128 * 16 + splits * groups * 32 * 16;
}

// Instances of the segment kernel, which holds all keys of a segment: X(name, head_dim, warpgroups).
#define FLASHRT_ATTENTION_SEGMENT(X) \
  X(attention_d72_segment64, 72, 1)  \
  X(attention_d72_segment128, 72, 2)

constexpr int32_t kAttentionSegmentKeys = 256;
constexpr int32_t attention_segment_smem(int d, int groups) {
  const int row = d <= 64 ? 128 : 128 + 32;
  return (groups * 64 + 2 * kAttentionSegmentKeys) * row + 128 + 1024;
}

}  // namespace flashrt
