// Hand-off of data between blocks of one kernel through L2: readers wait for the data itself. The lowest bit
// of what one store writes says in which round it was written; rounds alternate. Everything here is relaxed
// at device scope: no fence, no flag, nothing to clear, one store and one load.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// 16 aligned bytes travel in one access; the bit of the round is the lowest one of w.
__device__ __forceinline__ uint4 peek16(const void* p) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}
__device__ __forceinline__ void post16(void* p, uint4 v) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}
// Several words, each of which says its round.
__device__ __forceinline__ uint4 peek4x4(const void* p) { return peek16(p); }
__device__ __forceinline__ uint2 peek4x2(const void* p) {
  uint2 v;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void post8(void* p, uint32_t a, uint32_t b) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(p), "l"(a | static_cast<uint64_t>(b) << 32)
               : "memory");
}
__device__ __forceinline__ void post4(void* p, uint32_t v) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

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

// A block that waits for seconds waits for ever: better an error than a hung device.
struct Patience {
  int left = 1 << 22;
  __device__ __forceinline__ void spend() {
    if (--left == 0) __trap();
  }
};

}  // namespace flashrt
