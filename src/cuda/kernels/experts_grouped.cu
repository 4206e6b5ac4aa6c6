// A mixture of experts for many rows of half types: rows are sorted by expert on the device, an expert's rows
// meet its matrices in tiles of mma.sync (sm_80 and later), and every row adds up its experts' results in the
// order of its choice.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/experts_grouped_params.h"
#include "cuda/kernels/common/mma_tile.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/point.cuh"
#include "cuda/kernels/common/reduce.cuh"

namespace flashrt {
namespace {

constexpr int kPerLane = kMostExperts / 32;  // logits of a lane
template <class T>
using Tile = MmaTile<T, kExpertRows, kExpertColumns, 1, 4, kExpertStages>;

// Of two (value, index) pairs the larger, the first of equal ones; index −1 is none.
__device__ __forceinline__ void keep_larger(float& value, int& index, float other, int other_index) {
  if (index < 0 || (other_index >= 0 && (other > value || (other == value && other_index < index))))
    value = other, index = other_index;
}

}  // namespace

// A warp per row: its `used` largest logits, the first of equal ones, and their probabilities.
extern "C" __global__ void __launch_bounds__(128)
    experts_route(const __grid_constant__ ExpertsGroupedParams p) {
  pdl_launch();
  pdl_wait();
  const int row = int(blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = int(threadIdx.x % 32);
  if (row >= p.rows) return;
  const float* logits = p.router + int64_t(row) * p.experts;
  float own[kPerLane];
  uint32_t taken = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = i * 32 + lane;
    own[i] = e < p.experts ? fmaxf(logits[e], -3.4e38f) : 0.f;  // a number, also where the logit is none
    if (e >= p.experts) taken |= 1u << i;
  }
  float largest = 0.f, sum = 0.f, mine = 0.f;
  for (int n = 0; n < p.used; ++n) {
    float value = 0.f;
    int index = -1;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (!(taken >> i & 1u)) keep_larger(value, index, own[i], i * 32 + lane);
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, value, offset);
      keep_larger(value, index, other, __shfl_xor_sync(0xffffffffu, index, offset));
    }
    if (index % 32 == lane) taken |= 1u << (index / 32);
    if (n == 0) largest = value;
    const float e = expf(value - largest);
    sum += e;
    if (lane == n) mine = e;
    if (lane == 0) p.chosen[row * p.used + n] = index;
  }
  if (!p.normalise) {
    sum = 0.f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sum += i * 32 + lane < p.experts ? expf(own[i] - largest) : 0.f;
    sum = warp_total(sum);
  }
  if (lane < p.used) p.shares[row * p.used + lane] = mine / sum;
}

// One block: places of the slots, expert after expert, and the tiles that hold them.
extern "C" __global__ void __launch_bounds__(1024)
    experts_sort(const __grid_constant__ ExpertsGroupedParams p) {
  __shared__ int next[kMostExperts], first[kMostExperts + 1], first_tile[kMostExperts + 1];
  const int thread = int(threadIdx.x), slots = p.rows * p.used;
  pdl_launch();
  if (thread < kMostExperts) next[thread] = 0;
  pdl_wait();
  __syncthreads();
  for (int slot = thread; slot < slots; slot += int(blockDim.x)) atomicAdd(&next[p.chosen[slot]], 1);
  __syncthreads();
  if (thread < 32) {  // running sums of rows and tiles, in chunks of 32 experts
    int places = 0, tiles = 0;
    for (int e = thread; e < kMostExperts; e += 32) {
      const int count = next[e], needed = (count + kExpertRows - 1) / kExpertRows;
      int places_to = count, tiles_to = needed;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const int a = __shfl_up_sync(0xffffffffu, places_to, offset),
                  b = __shfl_up_sync(0xffffffffu, tiles_to, offset);
        if (thread >= offset) places_to += a, tiles_to += b;
      }
      first[e] = places + places_to - count;
      first_tile[e] = tiles + tiles_to - needed;
      places += __shfl_sync(0xffffffffu, places_to, 31);
      tiles += __shfl_sync(0xffffffffu, tiles_to, 31);
    }
    if (thread == 0) first[kMostExperts] = places, first_tile[kMostExperts] = tiles;
  }
  __syncthreads();
  if (thread < kMostExperts) {
    const int count = next[thread], tile = first_tile[thread];
    for (int i = 0; i * kExpertRows < count; ++i) {
      p.tiles[tile + i] = {thread, first[thread] + i * kExpertRows,
                           min(kExpertRows, count - i * kExpertRows)};
    }
    next[thread] = first[thread];
  }
  for (int i = first_tile[kMostExperts] + thread; i < p.most_tiles; i += int(blockDim.x))
    p.tiles[i] = {0, 0, 0};
  __syncthreads();
  for (int slot = thread; slot < slots; slot += int(blockDim.x)) {
    const int place = atomicAdd(&next[p.chosen[slot]], 1);
    p.places[slot] = place;
    p.slots[place] = slot;
  }
}

namespace {

// hidden[place] = activation(gate · x) · (up · x) of the place's row.
template <class T>
__device__ __forceinline__ void grouped_gate_up(const ExpertsGroupedParams& p, uint32_t ring) {
  pdl_launch();
  pdl_wait();
  const ExpertTile tile = p.tiles[blockIdx.x];
  if (tile.count == 0) return;
  const int column0 = int(blockIdx.y) * (kExpertColumns / 2);
  const int64_t expert = int64_t(tile.expert) * 2 * p.hidden;
  __shared__ int row_of[kExpertRows];
  if (threadIdx.x < kExpertRows) {
    row_of[threadIdx.x] =
        int(threadIdx.x) < tile.count ? p.slots[tile.first + int(threadIdx.x)] / p.used : -1;
  }
  __syncthreads();
  typename Tile<T>::Sums sum = {};
  Tile<T>{ring, p.width}.product(
      p.x, p.gate_up, [&](int j) { return int64_t(row_of[j]); },
      [&](int j) {  // eight gates, their eight ups
        const int column = column0 + j / 16 * 8 + j % 8;
        return column < p.hidden ? expert + (j / 8 % 2) * p.hidden + column : int64_t(-1);
      },
      [] {}, tile.count, sum);
  Tile<T>::for_each(sum, [&](int row, int column, const float(&gate)[2], const float(&up)[2]) {
    const int at = column0 + column / 16 * 8 + column % 8;
    if (row >= tile.count || at >= p.hidden) return;
    store_two(p.hidden_values.data, p.hidden_values.type,
              size_t(tile.first + row) * p.hidden_values.stride + at,
              point_function(p.function, gate[0]) * up[0], point_function(p.function, gate[1]) * up[1]);
  });
}

// parts[place] = down · hidden[place].
template <class T>
__device__ __forceinline__ void grouped_down(const ExpertsGroupedParams& p, uint32_t ring) {
  pdl_launch();
  pdl_wait();
  const ExpertTile tile = p.tiles[blockIdx.x];
  if (tile.count == 0) return;
  const int column0 = int(blockIdx.y) * kExpertColumns;
  const int64_t expert = int64_t(tile.expert) * p.width;
  const Source hidden{p.hidden_values.data, p.hidden_values.stride, p.hidden_values.type};
  typename Tile<T>::Sums sum = {};
  Tile<T>{ring, p.hidden}.product(
      hidden, p.down, [&](int j) { return j < tile.count ? int64_t(tile.first + j) : int64_t(-1); },
      [&](int j) { return column0 + j < p.width ? expert + column0 + j : int64_t(-1); }, [] {}, tile.count,
      sum);
  Tile<T>::for_each(sum, [&](int row, int column, const float(&even)[2], const float(&odd)[2]) {
    if (row >= tile.count) return;
    float* to = p.parts + size_t(tile.first + row) * p.width;
    const int at = column0 + column;
    if (at < p.width) *reinterpret_cast<float2*>(to + at) = make_float2(even[0], even[1]);
    if (at + 8 < p.width) *reinterpret_cast<float2*>(to + at + 8) = make_float2(odd[0], odd[1]);
  });
}

}  // namespace

// A thread per two columns of a row.
extern "C" __global__ void __launch_bounds__(256)
    experts_combine(const __grid_constant__ ExpertsGroupedParams p) {
  pdl_launch();
  pdl_wait();
  const int per_row = p.width / 2, index = int(blockIdx.x * blockDim.x + threadIdx.x);
  const int row = index / per_row, column = index % per_row * 2;
  if (row >= p.rows) return;
  float2 sum{};
  for (int i = 0; i < p.used; ++i) {
    const int slot = row * p.used + i;
    const float share = p.shares[slot];
    const float2 part = *reinterpret_cast<const float2*>(p.parts + size_t(p.places[slot]) * p.width + column);
    sum.x = fmaf(share, part.x, sum.x), sum.y = fmaf(share, part.y, sum.y);
  }
  store_two(p.y.data, p.y.type, size_t(row) * p.y.stride + column, sum.x, sum.y);
}

// grid: (tiles of rows, tiles of w)
#define FLASHRT_EXPERTS_GROUPED(name, T)                                               \
  extern "C" __global__ void __launch_bounds__(Tile<T>::kThreads)                      \
      experts_grouped_gate_up_##name(const __grid_constant__ ExpertsGroupedParams p) { \
    extern __shared__ __align__(128) unsigned char ring[];                             \
    grouped_gate_up<T>(p, smem_u32(ring));                                             \
  }                                                                                    \
  extern "C" __global__ void __launch_bounds__(Tile<T>::kThreads)                      \
      experts_grouped_down_##name(const __grid_constant__ ExpertsGroupedParams p) {    \
    extern __shared__ __align__(128) unsigned char ring[];                             \
    grouped_down<T>(p, smem_u32(ring));                                                \
  }
FLASHRT_EXPERTS_GROUPED(bf16, __nv_bfloat16)
FLASHRT_EXPERTS_GROUPED(f16, __half)

}  // namespace flashrt
