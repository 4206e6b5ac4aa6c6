// Who does what in the wgmma linear kernel: compiled tile, shared memory, place in the cluster, order of the
// tiles.
#pragma once
#include "cuda/kernels/common/linear_params.h"
#include "cuda/kernels/common/mbarrier.cuh"

namespace flashrt {

template <class T_, LinearRows kRows_, int kTileRows, int kTokens_>
struct LinearConfig {
  using T = T_;
  static constexpr LinearRows kRows = kRows_;
  static constexpr LinearTile kTile = linear_tile(kTileRows, kTokens_);
  static_assert(kTile.rows() == kTileRows);
  static constexpr int kWarpgroups = kTile.warpgroups, kRowTiles = kTile.row_tiles, kTokens = kTokens_;
  static constexpr int kGroups = kTokens / 8, kDepth = kTile.depth(), kStageBytes = kTile.stage_bytes();
  static constexpr int kChunkGroups = kTile.chunk_tokens() / 8, kBuffers = kTile.buffers();
  // Together all that the block gets at launch: 168 per thread for two warpgroups, 128 for three. One
  // warpgroup keeps what the compiler gave it: at most 128, so that two blocks fit on an SM.
  static constexpr bool kMovesRegisters = kWarpgroups > 1;
  static constexpr int kConsumerRegisters = kWarpgroups == 3 ? 144 : kRowTiles == 2 ? 232 : 216;
  static constexpr int kProducerRegisters = kWarpgroups == 3 ? 80 : kRowTiles == 2 ? 40 : 72;
  using Accumulators = float[kRowTiles][kTokens / 2];
};

// Shared memory, from the 1,024-byte aligned base: staging, per-token scales, barriers, ring. As 32-bit
// addresses from a base that the compiler takes for uniform and does not find anew before every copy.
template <class C>
struct LinearShared {
  uint32_t base;
  __device__ explicit LinearShared(uint8_t* memory) {
    uint32_t found;
    asm volatile("mov.u32 %0, %1;" : "=r"(found) : "r"(smem_u32(memory)));
    base = __shfl_sync(0xffffffffu, found, 0);
  }
  __device__ uint32_t staging(int warpgroup, int buffer) const {
    return base + (warpgroup * C::kBuffers + buffer) * C::kChunkGroups * 1024;
  }
  __device__ uint32_t scales() const { return base + C::kTile.staging_bytes(); }
  __device__ uint32_t barrier(int i) const { return scales() + C::kTokens * 4 + 8 * i; }
  __device__ uint32_t full(int stage) const { return barrier(stage); }
  __device__ uint32_t empty(int stage) const { return barrier(LinearTile::kMaxStages + stage); }
  // Of a split: peers no longer read where our sums go; their sums for one of our warpgroups have arrived.
  __device__ uint32_t split_ready() const { return barrier(2 * LinearTile::kMaxStages); }
  __device__ uint32_t split_sums(int warpgroup) const {
    return barrier(2 * LinearTile::kMaxStages + 1 + warpgroup);
  }
  __device__ uint32_t ring() const { return base + C::kTile.fixed_bytes(); }
};

// This block's coordinates in its cluster, and the cluster ranks of its peers.
struct LinearPlace {
  int row, token, split;
  int rows, tokens;
  __device__ explicit LinearPlace(const LinearParams& p) : rows(p.cluster_rows), tokens(p.cluster_tokens) {
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(row));
    for (token = 0; row >= rows; row -= rows) ++token;  // at most 8 blocks: cheaper than divisions
    for (split = 0; token >= tokens; token -= tokens) ++split;
  }
  __device__ int peers() const {
    return rows + tokens - 1;
  }  // blocks, this one included, that write to our ring
  __device__ int rank_of(int s, int t, int r) const { return (s * tokens + t) * rows + r; }
  __device__ int peer(int i) const {
    if (i < rows) return rank_of(split, token, i);
    const int t = i - rows;
    return rank_of(split, t < token ? t : t + 1, row);
  }
  __device__ uint16_t row_mask() const {
    return static_cast<uint16_t>(((1u << rows) - 1) << rank_of(split, token, 0));
  }
  __device__ uint16_t token_mask() const {
    uint32_t mask = 0;
    for (int t = 0; t < tokens; ++t) mask |= 1u << rank_of(split, t, row);
    return static_cast<uint16_t>(mask);
  }
};

// x / d for x·d < 2³², from the magic number of LinearParams.
__device__ __forceinline__ int fast_divide(int x, uint32_t magic) {
  return magic ? static_cast<int>(__umulhi(static_cast<uint32_t>(x), magic)) : x;
}

// The tiles of one cluster: unit, unit + clusters, …; token groups run fastest so that concurrent clusters
// share weights.
struct LinearSchedule {
  int unit, step, units, row_tile, token_tile;
  __device__ LinearSchedule(const LinearParams& p, const LinearPlace& at)
      : units(p.row_groups * p.token_groups) {
    asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(unit));
    asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(step));
    locate(p, at);
  }
  __device__ void locate(const LinearParams& p, const LinearPlace& at) {
    const int row_group = fast_divide(unit, p.token_groups_magic);
    row_tile = row_group * at.rows + at.row;
    token_tile = (unit - row_group * p.token_groups) * at.tokens + at.token;
  }
  __device__ bool done() const { return unit >= units; }
  __device__ void next(const LinearParams& p, const LinearPlace& at) {
    unit += step;
    locate(p, at);
  }
};

// Sums of one group of 8 tokens that one warpgroup of a peer sends: 16 bytes of each thread, per row tile.
template <class C>
constexpr int kLinearSumBytes = C::kRowTiles * 2048;

// This block's range of stages.
struct LinearRange {
  int first, count;
  __device__ LinearRange(const LinearParams& p, int split)
      : first(split * p.k_share + min(split, p.k_extra)), count(p.k_share + (split < p.k_extra)) {}
};

// Position in the ring of stages; the phase flips at every wrap. A split tile receives its peers' sums where
// the ring begins: its stages are placed so that the last round of them fills the ring from there, and what
// lies first falls idle first.
template <class C>
struct LinearRing {
  uint32_t base;
  int stages, slot = 0, place = 0;
  uint32_t phase = 0;
  __device__ LinearRing(const LinearShared<C>& s, const LinearParams& p, int count)
      : base(s.base), stages(p.stages) {
    if (p.split > 1) place = (stages - count % stages) % stages;
  }
  __device__ __forceinline__ uint32_t weights() const {
    return base + C::kTile.fixed_bytes() + place * C::kStageBytes;
  }
  __device__ __forceinline__ uint32_t tokens() const { return weights() + C::kDepth * C::kTile.rows() * 128; }
  __device__ __forceinline__ uint32_t full() const {
    return base + C::kTile.staging_bytes() + C::kTokens * 4 + slot * 8;
  }
  __device__ __forceinline__ uint32_t empty() const { return full() + 8 * LinearTile::kMaxStages; }
  __device__ __forceinline__ void next() {
    if (++slot == stages) slot = 0, phase ^= 1;
    if (++place == stages) place = 0;
  }
};

}  // namespace flashrt
