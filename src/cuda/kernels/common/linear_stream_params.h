// Launch parameters of the streaming linear kernels (1 … 64 rows); plain data, shared by host and device
// code.
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>

namespace flashrt {

enum class StreamEpilogue : int { plain, residual, pair, qkv };
enum class StreamActivation : int { none, gelu_tanh, silu };

// y[m, n] = epilogue(prologue(x)[m, k] · w[n, k]ᵀ). A cluster of 2^split_shift blocks computes row tiles of
// w; each block takes kb_split blocks of 64 k. Filled by plan_linear_stream from the fields below `geometry`.
struct LinearStreamParams {
  CUtensorMap w;  // [n, k], box 64 k × half a tile (pair, qkv) or a whole one, 128-byte swizzle
  CUtensorMap x;  // [m, k], box 64 k × rows of the instance; unused under a normalising prologue
  // geometry
  int tiles, clusters, split_shift;
  int kb_total, kb_split;
  int stages;
  int trigger;    // successors may start once this many weight loads have been issued
  int pairs_max;  // token pairs a block finishes at most
  int xs_at, slots_at, barriers_at, vectors_at;  // offsets in shared memory
  float inv_k;
  // problem
  int m, n, k;
  StreamEpilogue epilogue;
  StreamActivation activation;
  // Prologue: x·rsqrt(mean(x²) + eps)·(1 + norm_scale) + norm_shift, when norm_scale is set.
  float eps;
  int row_stat_slots;
  const __nv_bfloat16* x_rows;  // [m, k]
  const float* norm_scale;      // [k]
  const float* norm_shift;      // [k] or null
  const float* row_stat;  // [row_stat_slots][m] pairs (Σx, Σx²) of parts of the rows, or null: computed here
  const float* bias;      // [n] or null
  const float* gate;      // [n] or null (residual)
  const __nv_bfloat16* residual;  // [m, n]; may alias y
  __nv_bfloat16* y;               // [m, n], [m, n/2] (pair) or [m, q_heads·head_dim] (qkv)
  float* stat_out;                // [⌈n/64⌉][m] pairs (Σy, Σy²) of 64 columns each, or null (residual)
  // qkv: rows of w are [q heads | k heads | v heads]·head_dim; k and v go to row position[0] + token.
  int q_heads, kv_heads, head_dim;
  int tiles_per_head_shift;
  const int* position;
  const float2* rope;  // [positions, head_dim/2] of (cos, sin), or null
  __nv_bfloat16* k_cache;
  __nv_bfloat16* v_cache;  // [rows, kv_heads·head_dim]
};

}  // namespace flashrt
