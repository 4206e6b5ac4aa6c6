// What keeps a stream of small wgmma products fast: values and branches that the compiler knows to be
// uniform.
#pragma once
#include "cuda/kernels/common/mbarrier.cuh"

namespace flashrt {

// Tells the compiler that a value is the same in all lanes, so that descriptors are computed once per warp:
// per thread, computing them takes longer than the product.
__device__ __forceinline__ int uniform(int v) { return __shfl_sync(0xffffffffu, v, 0); }

// A descriptor `by` units of 16 bytes further on, in 32 bits: a carry would cost more than the product.
__device__ __forceinline__ uint64_t further(uint64_t descriptor, uint32_t by) {
  const uint32_t low = static_cast<uint32_t>(descriptor) + by;
  return (descriptor & 0xffffffff00000000ull) | low;
}

// A whole warp waits; it leaves the loop at once, or ptxas would serialise the products behind it (C7520).
__device__ __forceinline__ void warp_wait(Mbarrier* bar, uint32_t parity) {
  while (!__all_sync(0xffffffffu, mbarrier_test(bar, parity))) {
  }
}

}  // namespace flashrt
