// Hand-off of data between blocks of one kernel through L2: readers wait for the data itself. A word of 0
// says "not written yet"; zeros are written as -0. Everything here is relaxed at device scope: no fence, no
// flag, one store and one load.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

__device__ __forceinline__ uint4 peek16(const void* p) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}
__device__ __forceinline__ uint2 peek8(const void* p) {
  uint2 v;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}

// A block that waits for seconds waits for ever: better an error than a hung device.
struct Patience {
  int left = 1 << 23;
  __device__ __forceinline__ void spend() {
    if (--left == 0) __trap();
  }
};

__device__ __forceinline__ uint32_t never_zero_half2(uint32_t w) { return w != 0 ? w : 0x80008000u; }
__device__ __forceinline__ uint32_t never_zero(float v) {
  const uint32_t w = __float_as_uint(v);
  return w != 0 ? w : 0x80000000u;
}
__device__ __forceinline__ void post4(void* p, uint32_t v) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ void post8(void* p, uint32_t a, uint32_t b) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(p), "r"(a), "r"(b) : "memory");
}
__device__ __forceinline__ void post16(void* p, uint4 v) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}
__device__ __forceinline__ void clear16(void* p) { post16(p, make_uint4(0, 0, 0, 0)); }

// 0 when any word is.
__device__ __forceinline__ uint32_t least(uint4 v) { return __vimin3_u32(min(v.x, v.y), v.z, v.w); }

// Loads `Count` packets, of which the first `count` are wanted, until all of them have been written. The
// loads of one round are in flight together. Where blocks ask for much, one lane asks first (`knock`) until
// there is an answer: 128 blocks that ask for everything again and again would keep L2 busy with nothing
// else.
template <int Count, class Address>
__device__ __forceinline__ void fetch(uint4 (&v)[Count], int count, bool knock, Address&& address) {
  Patience patience;
  if (knock) {
    if (count > 0 && lane_id() == 0)
      while (least(peek16(address(0))) == 0) patience.spend();
    __syncwarp();
  }
  while (true) {
    uint32_t written = ~0u;
#pragma unroll
    for (int i = 0; i < Count; ++i)
      if (i < count) v[i] = peek16(address(i));
#pragma unroll
    for (int i = 0; i < Count; ++i)
      if (i < count) written = min(written, least(v[i]));
    if (__all_sync(0xffffffffu, written != 0)) break;
    patience.spend();
  }
}

}  // namespace flashrt
