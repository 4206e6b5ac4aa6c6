// Launch parameters of decode attention: one token's queries over the cache; plain data, shared by host and
// device.
#pragma once
#include <cuda.h>

namespace flashrt {

struct AttentionStepParams {
  CUtensorMap k, v;     // the caches [capacity, kv_heads·head_dim]; box: a tile of keys × head_dim
  const void* qkv;      // [(heads + 2·kv_heads)·head_dim]
  const float* table;   // [positions, head_dim] of (cos, sin) pairs
  const int* position;  // rows of the caches that hold keys: where this token's go
  void *k_cache, *v_cache, *out;
  const float *q_norm, *k_norm;                          // [head_dim], weights are 1 + these; or null
  float* partials;                                       // [kv_heads, splits, group, head_dim + 2]
  int* arrived;                                          // [kv_heads], zero between launches
  int heads, kv_heads, group, capacity, window, splits;  // window 0: all keys
  int stages, barriers_at;                               // of the ring; in shared memory
  float eps, scale_log2;                                 // of the logits, times log2(e)
};

// Keys of a tile.
constexpr int attention_step_keys(int head_dim) { return head_dim == 64 ? 64 : 32; }
constexpr int kAttentionStepWarps = 8, kAttentionStepThreads = (kAttentionStepWarps + 1) * 32;
// A ring of `stages` tiles of keys and of values, then barriers; the merge of the warps' results lies over
// the ring.
constexpr int attention_step_barriers(int head_dim, int group, int stages) {
  const int merge = kAttentionStepWarps * group * (head_dim + 2) * 4;
  const int ring = stages * attention_step_keys(head_dim) * head_dim * 4;
  return ring > merge ? ring : (merge + 127) / 128 * 128;
}

}  // namespace flashrt
