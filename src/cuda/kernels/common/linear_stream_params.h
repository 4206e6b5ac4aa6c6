// Launch parameters of the streaming linear kernels (1 … 64 rows); plain data, shared by host and device code.
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>

namespace flashrt {

enum class StreamEpilogue : int { plain, residual, pair, qkv };
enum class StreamActivation : int { none, gelu_tanh, silu };

// y[m, n] = epilogue(prologue(x)[m, k] · w[n, k]ᵀ). A cluster computes row tiles of w; its blocks split k.
struct LinearStreamParams {
  CUtensorMap w;  // [n, k], box 64 k × 32·row groups, 128-byte swizzle
  CUtensorMap x;  // [m, k], box 64 k × kRows; unused under a normalising prologue
  // Prologue: x·rsqrt(mean(x²) + eps)·(1 + norm_scale) + norm_shift, when norm_scale is set.
  const __nv_bfloat16* x_rows;  // [m, k]
  const float* norm_scale;      // [k]
  const float* norm_shift;      // [k] or null
  const float* row_stat;        // [m, row_stat_slots] partial Σx², or null: computed here
  int row_stat_slots;
  float eps;
  int m, n, k;
  int tiles, stages;
  int trigger;  // successors may start once this many weight loads have been issued
  StreamEpilogue epilogue;
  StreamActivation activation;
  const float* bias;             // [n] or null
  const float* gate;             // [n] or null (residual)
  const __nv_bfloat16* residual; // [m, n]; may alias y
  __nv_bfloat16* y;              // [m, n], [m, n/2] (pair) or [m, q_heads·head_dim] (qkv)
  float* stat_out;               // [m, tiles] partial Σy² of this tile's columns, or null (residual)
  // qkv: rows of w are [q heads | k heads | v heads]·head_dim; k and v go to row position[0] + token.
  int q_heads, kv_heads, head_dim;
  const int* position;
  const float2* rope;  // [positions, head_dim/2] of (cos, sin), or null
  __nv_bfloat16* k_cache;
  __nv_bfloat16* v_cache;  // [rows, kv_heads·head_dim]
};

}  // namespace flashrt
