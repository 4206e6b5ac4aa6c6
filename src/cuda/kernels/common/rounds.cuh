// Hand-off (handoff.cuh) by rounds: the lowest bit of the last word of what one store writes says in which
// round it was written; rounds alternate, so that there is nothing to clear. 16 aligned bytes travel in one
// access.
#pragma once
#include "cuda/kernels/common/handoff.cuh"

namespace flashrt {

__device__ __forceinline__ uint32_t stamped(uint32_t w, uint32_t round) { return (w & ~1u) | round; }
__device__ __forceinline__ uint4 stamped(uint4 v, uint32_t round) {
  return make_uint4(v.x, v.y, v.z, stamped(v.w, round));
}

// Values must not depend on the round.
__device__ __forceinline__ uint32_t unstamped(uint32_t w) { return w & ~1u; }
__device__ __forceinline__ uint4 unstamped4(uint4 v) {
  return make_uint4(unstamped(v.x), unstamped(v.y), unstamped(v.z), unstamped(v.w));
}

// Whether all words looked at are of this round.
struct Current {
  uint32_t round, late = 0;
  __device__ __forceinline__ void see(uint32_t w) { late |= w ^ round; }
  __device__ __forceinline__ void see_all(uint4 v) { see(v.x), see(v.y), see(v.z), see(v.w); }
  __device__ __forceinline__ bool in_all_lanes(bool regardless = false) const {
    return __all_sync(0xffffffffu, regardless || (late & 1) == 0);
  }
};

}  // namespace flashrt
