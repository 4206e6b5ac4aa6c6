// What a launch of the wgmma linear kernel is told: schedule, epilogue, tensor maps. Shared by kernel and
// host.
#pragma once
#include <cuda.h>

#include <cstdint>

namespace flashrt {

enum class LinearActivation : int { none, gelu_tanh, silu };

// How weight rows are laid over the 64-row accumulator tiles.
//   plain  tile row r is weight row r
//   pair   groups of 8 rows alternate with their partners n/2 further on (gate with up), so that both values
//   of a pair
//          reach the same thread
//   heads  the same with the two halves of every attention head
enum class LinearRows : int { plain, pair, heads };

// Tile sizes of one compiled instance. Warpgroups each own `row_tiles` tiles of 64 weight rows. Shared
// memory: staging of the epilogue, scales of the tokens and barriers, then the ring of k blocks.
struct LinearTile {
  int warpgroups, row_tiles, tokens;
  static constexpr int kMaxStages = 12;
  constexpr int rows() const { return 64 * warpgroups * row_tiles; }
  constexpr int threads() const { return 128 * (warpgroups + 1); }
  constexpr int residents() const {
    return warpgroups == 1 && tokens <= 104 ? 2 : 1;
  }  // that registers admit
  // k blocks of 64 values per stage of the ring: a hand-over costs some 300 cycles, more than a narrow tile's
  // product.
  constexpr int depth() const { return rows() == 64 ? 2 : 1; }
  constexpr int stage_bytes() const { return (rows() + tokens) * 128 * depth(); }
  // The epilogue stages so many tokens at once, per warpgroup in one buffer for all of a small tile or in
  // two.
  constexpr int chunk_tokens() const { return tokens > 64 && tokens <= 128 ? 128 : 64; }
  constexpr int buffers() const { return tokens <= 128 ? 1 : 2; }
  constexpr int staging_bytes() const { return warpgroups * buffers() * chunk_tokens() * 128; }
  constexpr int fixed_bytes() const { return staging_bytes() + (tokens * 4 + 256 + 1023) / 1024 * 1024; }
  constexpr int stages(int resident) const {  // of `resident` blocks on one SM
    const int fit = (233472 / resident - 1024 - fixed_bytes()) / stage_bytes();
    return fit < kMaxStages ? fit : kMaxStages;
  }
  constexpr int shared_bytes(int resident) const { return fixed_bytes() + stages(resident) * stage_bytes(); }
};
constexpr LinearTile linear_tile(int rows, int tokens) {
  return {rows == 64 ? 1 : rows == 192 ? 3 : 2, rows == 256 ? 2 : 1, tokens};
}

// y = epilogue(x · wᵀ); all arithmetic of the epilogue in f32, one rounding at the end, in the order of the
// fields.
struct LinearParams {
  // Schedule. A cluster is split × cluster_tokens × cluster_rows blocks; the rank runs fastest over rows.
  int m, n;                      // n counts weight rows
  int k_share, k_extra;          // stages per block of the split; the first k_extra take one more
  int row_groups, token_groups;  // cluster tiles along n and m
  uint32_t token_groups_magic;  // ⌊2³² / token_groups⌋ + 1, 0 for one group: division by multiplication
  int cluster_rows, cluster_tokens;  // blocks that share a token tile / a weight tile by multicast
  int split;                         // blocks that share the k range of one tile
  int split_groups;                  // groups of 8 tokens that each of them finishes
  int token_slice;                   // tokens one block loads for its row peers, a multiple of 8
  int stages;                        // of the ring

  // heads: rows are query heads, then key heads, then value heads, of head_dim each.
  int head_dim, query_heads, kv_heads;
  uint32_t head_dim_magic;

  // Norm of the input, whose weight is folded into w: value = acc · rstd. For a LayerNorm the rows of w have
  // been centred, so that only the variance needs the mean.
  int row_stat_slots, centred;
  float inverse_width, epsilon;
  LinearActivation
      activation;          // after the bias; pair: of the first of the pair, then multiplied by the second
  const float* row_stats;  // [row_stat_slots][m] pairs (Σx, Σx²), or null
  const float* bias;       // [n] or null

  const int* position;  // heads: device; first row of this call in the caches and the rotary table; null = 0
  const float* rotary;  // heads: [positions][head_dim/2] pairs (cos, sin); null = no rotation

  const float* gate;        // [n] or null: out = residual + gate·value
  const void* residual;     // [residual_period][out columns] or null; may be `out`
  int64_t residual_stride;  // elements
  int residual_period;      // rows; row r reads residual row r % period

  int out_stat_slots;
  float* out_stats;    // [out_stat_slots][m] pairs (Σy, Σy²) over 64 columns each, or null
  void* out;           // [m][n], pair: [m][n/2], heads: the query columns [m][heads·d]
  int64_t out_stride;  // elements
  void* keys;          // heads: [rows][kv_heads·d], row position + token
  void* values;
  int64_t kv_stride;  // elements

  CUtensorMap weights;  // [n][k]; pair, heads: [groups][2][8][k]
  CUtensorMap tokens;   // [m][k]
  // Of `out`: boxes of LinearTile::chunk_tokens, of the tokens left over by such chunks, and of 8 rows; 64
  // columns, paired 32. Where a split shares a tile of one chunk: boxes of a whole share and of the last one.
  CUtensorMap out_chunk, out_tail, out_group;
  CUtensorMap key_group, value_group;
};

}  // namespace flashrt
