// Hand-off of data between blocks of one kernel through L2: readers wait for the data itself, which says
// by its own bits that it has been written. Everything here is relaxed at device scope: no fence, no flag,
// one store and one load. 8 aligned bytes that were posted at once are seen at once.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

__device__ __forceinline__ uint32_t peek4(const void* p) {
  uint32_t v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint2 peek8(const void* p) {
  uint2 v;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint4 peek16(const void* p) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}
// The same for words of 8 bytes, each of which is seen whole by the rules of PTX too.
__device__ __forceinline__ uint4 peek8x2(const void* p) {
  uint64_t a, b;
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(p) : "memory");
  return make_uint4(uint32_t(a), uint32_t(a >> 32), uint32_t(b), uint32_t(b >> 32));
}

__device__ __forceinline__ void post2(void* p, uint16_t v) {
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" ::"l"(p), "h"(v) : "memory");
}
__device__ __forceinline__ void post4(void* p, uint32_t v) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ void post8(void* p, uint32_t a, uint32_t b) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(p), "l"(a | uint64_t(b) << 32) : "memory");
}
__device__ __forceinline__ void post16(void* p, uint4 v) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

// A block that waits for seconds waits for ever: better an error than a hung device.
struct Patience {
  int left = 1 << 23;
  __device__ __forceinline__ void spend() {
    if (--left == 0) __trap();
  }
};

}  // namespace flashrt
