// What a launch of the wgmma linear kernel is told: tensor maps, schedule, epilogue. Shared by kernel and
// host.
#pragma once
#include <cuda.h>

#include <cstdint>

namespace flashrt {

enum class LinearActivation : int { none, gelu_tanh, silu };

// How weight rows are laid over the 64-row accumulator tiles.
//   plain  tile row r is weight row r
//   pair   groups of 8 rows alternate with their partners `pair_distance` further on (gate with up, or the
//   two halves
//          of an attention head), so that both values of a pair reach the same thread
enum class LinearRows : int { plain, pair, heads };

// Tile sizes of one compiled instance. Warpgroups each own `row_tiles` tiles of 64 weight rows. Two resident
// blocks per SM let a kernel start (and fetch its first weights) beside its predecessor; one leaves room for
// larger tiles.
struct LinearTile {
  int warpgroups, row_tiles, tokens, resident;
  constexpr int rows() const { return 64 * warpgroups * row_tiles; }
  constexpr int threads() const { return 128 * (warpgroups + 1); }
  constexpr int stage_bytes() const { return (rows() + tokens) * 128; }   // 64 k-values of 2 bytes
  constexpr int chunk_tokens() const { return resident == 1 ? 64 : 32; }  // of the epilogue
  constexpr int staging_bytes() const { return warpgroups * 2 * chunk_tokens() * 128; }
  constexpr int fixed_bytes() const { return staging_bytes() + tokens * 8 + 256; }
  constexpr int stages() const {
    const int fit = ((resident == 1 ? 232448 : 115712) - fixed_bytes()) / stage_bytes();
    return fit < 8 ? fit : 8;
  }
  constexpr int shared_bytes() const { return stages() * stage_bytes() + fixed_bytes(); }
};

// y = epilogue(x · wᵀ); all arithmetic of the epilogue in f32, one rounding at the end, in the order of the
// fields.
struct LinearParams {
  CUtensorMap weights;  // plain: [n][k]; pair: [groups][2][8][k]; heads: [heads][groups][2][8][k]
  CUtensorMap tokens;   // [m][k]
  CUtensorMap out_chunk,
      out_group;  // of `out`: boxes of tile.chunk_tokens() and of 8 rows, 64 (paired: 32) columns
  CUtensorMap key_group, value_group;

  // Schedule. A cluster is split × cluster_tokens × cluster_rows blocks; the rank runs fastest over rows.
  int m, n;                          // n counts weight rows
  int k_blocks;                      // of 64
  int row_groups, token_groups;      // cluster tiles along n and m
  int cluster_rows, cluster_tokens;  // blocks that share a token tile / a weight tile by multicast
  int split;                         // blocks that share the k range of one tile
  int token_slice;                   // tokens one block loads for its row peers, a multiple of 8
  int lockstep;                      // warpgroups start every k block together

  // Norm of the input whose weight is folded into w: value = acc·rstd − (rstd·mean)·column_sum.
  const float* row_stats;   // [m][row_stat_slots] pairs (Σx, Σx²), or null
  const float* column_sum;  // [n] = Σ_k w (LayerNorm), or null (RMS: the mean is not subtracted)
  int row_stat_slots;
  float inverse_width, epsilon;

  const float* bias;            // [n] or null
  LinearActivation activation;  // pair: applied to the first of the pair, then multiplied by the second

  const void* residual;     // [residual_period][out columns] or null; may be `out`
  const float* gate;        // [n] or null: out = residual + gate·value
  int64_t residual_stride;  // elements
  int residual_period;      // rows; row r reads residual row r % period

  void* out;           // [m][n], pair: [m][n/2], heads: the query columns [m][heads·d]
  int64_t out_stride;  // elements
  float* out_stats;    // [m][out_stat_slots] pairs (Σy, Σy²) over 64 columns each, or null
  int out_stat_slots;

  // heads: rows are query heads, then key heads, then value heads, of head_dim each.
  const int* position;  // device; first row of this call in the caches and in the rotary table; null = 0
  const float* rotary;  // [positions][head_dim/2] pairs (cos, sin); null = no rotation
  void* keys;           // [rows][kv_heads·d], row position + token
  void* values;
  int64_t kv_stride;  // elements
  int head_dim, query_heads, kv_heads;
};

}  // namespace flashrt
