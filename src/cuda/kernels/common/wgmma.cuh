// Warpgroup matrix multiply (wgmma m64nNk16, 16-bit operands, f32 accumulators) for N = 8, 16, …, 256. sm_90a
// only. Thread t of the warpgroup holds d[4g + 2h + e] = D[row 16·(t/32) + (t%32)/4 + 8h][column 8g + 2·(t%4)
// + e].
#pragma once
#include <type_traits>

#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// Before the first wgmma of a batch, and whenever ordinary code has touched its registers since the last one.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// At most N committed groups are unfinished.
template <int N>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// Pins accumulators at this point of the program: the compiler may not move copies of them across it.
template <int Count>
__device__ __forceinline__ void wgmma_pin(float (&d)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Register budget of the executing warpgroup, a multiple of 8 in 24…256; every warp of it must execute this.
template <int Count>
__device__ __forceinline__ void register_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count>
__device__ __forceinline__ void register_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

// Shared-memory matrix descriptors, 128-byte swizzle; the tile starts at a 1,024-byte boundary.
// bits 0–13 address / 16, 16–29 leading byte offset / 16, 32–45 stride byte offset / 16, 62–63 = 1: 128-byte
// swizzle.
//
// K-major: rows of 64 k-values (128 bytes), as a 64-wide TMA box leaves them; 8 rows make one 1,024-byte
// atom. The next 16 k-values of the same tile are at +32 bytes: descriptor + kDescriptorNextK.
__device__ __forceinline__ uint64_t descriptor_k_major(uint32_t smem) {
  return static_cast<uint64_t>((smem & 0x3ffff) >> 4) | 1ull << 16 | static_cast<uint64_t>(1024 >> 4) << 32 |
         1ull << 62;
}
// MN-major: rows of 64 m- or n-values (128 bytes), one row per k; 64 more m/n-values start `block_bytes`
// further on
// (= 128 · k rows of the box). The next 16 k-values are at +2,048 bytes: descriptor +
// kDescriptorNextKTransposed.
__device__ __forceinline__ uint64_t descriptor_mn_major(uint32_t smem, uint32_t block_bytes) {
  return static_cast<uint64_t>((smem & 0x3ffff) >> 4) | static_cast<uint64_t>(block_bytes >> 4) << 16 |
         static_cast<uint64_t>(1024 >> 4) << 32 | 1ull << 62;
}
constexpr uint64_t kDescriptorNextK = 32 >> 4;
constexpr uint64_t kDescriptorNextKTransposed = 2048 >> 4;

// The operand lists of the instruction. FLASHRT_REGS_g names accumulator registers 0 … 4g−1 in the text of
// the instruction, FLASHRT_OUTS_g binds them.
#define FLASHRT_OUT(i) "+f"(d[i])
#define FLASHRT_OUT4(i) FLASHRT_OUT(i), FLASHRT_OUT(i + 1), FLASHRT_OUT(i + 2), FLASHRT_OUT(i + 3)
#define FLASHRT_REGS_1 "%0, %1, %2, %3"
#define FLASHRT_OUTS_1 FLASHRT_OUT4(0)
#define FLASHRT_REGS_2 FLASHRT_REGS_1 ", %4, %5, %6, %7"
#define FLASHRT_OUTS_2 FLASHRT_OUTS_1, FLASHRT_OUT4(4)
#define FLASHRT_REGS_3 FLASHRT_REGS_2 ", %8, %9, %10, %11"
#define FLASHRT_OUTS_3 FLASHRT_OUTS_2, FLASHRT_OUT4(8)
#define FLASHRT_REGS_4 FLASHRT_REGS_3 ", %12, %13, %14, %15"
#define FLASHRT_OUTS_4 FLASHRT_OUTS_3, FLASHRT_OUT4(12)
#define FLASHRT_REGS_5 FLASHRT_REGS_4 ", %16, %17, %18, %19"
#define FLASHRT_OUTS_5 FLASHRT_OUTS_4, FLASHRT_OUT4(16)
#define FLASHRT_REGS_6 FLASHRT_REGS_5 ", %20, %21, %22, %23"
#define FLASHRT_OUTS_6 FLASHRT_OUTS_5, FLASHRT_OUT4(20)
#define FLASHRT_REGS_7 FLASHRT_REGS_6 ", %24, %25, %26, %27"
#define FLASHRT_OUTS_7 FLASHRT_OUTS_6, FLASHRT_OUT4(24)
#define FLASHRT_REGS_8 FLASHRT_REGS_7 ", %28, %29, %30, %31"
#define FLASHRT_OUTS_8 FLASHRT_OUTS_7, FLASHRT_OUT4(28)
#define FLASHRT_REGS_9 FLASHRT_REGS_8 ", %32, %33, %34, %35"
#define FLASHRT_OUTS_9 FLASHRT_OUTS_8, FLASHRT_OUT4(32)
#define FLASHRT_REGS_10 FLASHRT_REGS_9 ", %36, %37, %38, %39"
#define FLASHRT_OUTS_10 FLASHRT_OUTS_9, FLASHRT_OUT4(36)
#define FLASHRT_REGS_11 FLASHRT_REGS_10 ", %40, %41, %42, %43"
#define FLASHRT_OUTS_11 FLASHRT_OUTS_10, FLASHRT_OUT4(40)
#define FLASHRT_REGS_12 FLASHRT_REGS_11 ", %44, %45, %46, %47"
#define FLASHRT_OUTS_12 FLASHRT_OUTS_11, FLASHRT_OUT4(44)
#define FLASHRT_REGS_13 FLASHRT_REGS_12 ", %48, %49, %50, %51"
#define FLASHRT_OUTS_13 FLASHRT_OUTS_12, FLASHRT_OUT4(48)
#define FLASHRT_REGS_14 FLASHRT_REGS_13 ", %52, %53, %54, %55"
#define FLASHRT_OUTS_14 FLASHRT_OUTS_13, FLASHRT_OUT4(52)
#define FLASHRT_REGS_15 FLASHRT_REGS_14 ", %56, %57, %58, %59"
#define FLASHRT_OUTS_15 FLASHRT_OUTS_14, FLASHRT_OUT4(56)
#define FLASHRT_REGS_16 FLASHRT_REGS_15 ", %60, %61, %62, %63"
#define FLASHRT_OUTS_16 FLASHRT_OUTS_15, FLASHRT_OUT4(60)
#define FLASHRT_REGS_17 FLASHRT_REGS_16 ", %64, %65, %66, %67"
#define FLASHRT_OUTS_17 FLASHRT_OUTS_16, FLASHRT_OUT4(64)
#define FLASHRT_REGS_18 FLASHRT_REGS_17 ", %68, %69, %70, %71"
#define FLASHRT_OUTS_18 FLASHRT_OUTS_17, FLASHRT_OUT4(68)
#define FLASHRT_REGS_19 FLASHRT_REGS_18 ", %72, %73, %74, %75"
#define FLASHRT_OUTS_19 FLASHRT_OUTS_18, FLASHRT_OUT4(72)
#define FLASHRT_REGS_20 FLASHRT_REGS_19 ", %76, %77, %78, %79"
#define FLASHRT_OUTS_20 FLASHRT_OUTS_19, FLASHRT_OUT4(76)
#define FLASHRT_REGS_21 FLASHRT_REGS_20 ", %80, %81, %82, %83"
#define FLASHRT_OUTS_21 FLASHRT_OUTS_20, FLASHRT_OUT4(80)
#define FLASHRT_REGS_22 FLASHRT_REGS_21 ", %84, %85, %86, %87"
#define FLASHRT_OUTS_22 FLASHRT_OUTS_21, FLASHRT_OUT4(84)
#define FLASHRT_REGS_23 FLASHRT_REGS_22 ", %88, %89, %90, %91"
#define FLASHRT_OUTS_23 FLASHRT_OUTS_22, FLASHRT_OUT4(88)
#define FLASHRT_REGS_24 FLASHRT_REGS_23 ", %92, %93, %94, %95"
#define FLASHRT_OUTS_24 FLASHRT_OUTS_23, FLASHRT_OUT4(92)
#define FLASHRT_REGS_25 FLASHRT_REGS_24 ", %96, %97, %98, %99"
#define FLASHRT_OUTS_25 FLASHRT_OUTS_24, FLASHRT_OUT4(96)
#define FLASHRT_REGS_26 FLASHRT_REGS_25 ", %100, %101, %102, %103"
#define FLASHRT_OUTS_26 FLASHRT_OUTS_25, FLASHRT_OUT4(100)
#define FLASHRT_REGS_27 FLASHRT_REGS_26 ", %104, %105, %106, %107"
#define FLASHRT_OUTS_27 FLASHRT_OUTS_26, FLASHRT_OUT4(104)
#define FLASHRT_REGS_28 FLASHRT_REGS_27 ", %108, %109, %110, %111"
#define FLASHRT_OUTS_28 FLASHRT_OUTS_27, FLASHRT_OUT4(108)
#define FLASHRT_REGS_29 FLASHRT_REGS_28 ", %112, %113, %114, %115"
#define FLASHRT_OUTS_29 FLASHRT_OUTS_28, FLASHRT_OUT4(112)
#define FLASHRT_REGS_30 FLASHRT_REGS_29 ", %116, %117, %118, %119"
#define FLASHRT_OUTS_30 FLASHRT_OUTS_29, FLASHRT_OUT4(116)
#define FLASHRT_REGS_31 FLASHRT_REGS_30 ", %120, %121, %122, %123"
#define FLASHRT_OUTS_31 FLASHRT_OUTS_30, FLASHRT_OUT4(120)
#define FLASHRT_REGS_32 FLASHRT_REGS_31 ", %124, %125, %126, %127"
#define FLASHRT_OUTS_32 FLASHRT_OUTS_31, FLASHRT_OUT4(124)

template <int N>
struct WgmmaShape;

// One shape; a … a5 are the operand numbers that follow the accumulators.
#define FLASHRT_WGMMA_TEXT(N, groups, type, a, scale)                                                      \
  "{\n.reg .pred p;\nsetp.ne.b32 p, %" #scale ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type \
  "." type " {" FLASHRT_REGS_##groups "}, " a
#define FLASHRT_WGMMA_SS(N, groups, type, a, b, scale, ta, tb) \
  FLASHRT_WGMMA_TEXT(N, groups, type, "%" #a, scale) ", %" #b ", p, 1, 1, %" #ta ", %" #tb ";\n}\n"
#define FLASHRT_WGMMA_RS(N, groups, type, a, a1, a2, a3, b, scale, tb)                  \
  FLASHRT_WGMMA_TEXT(N, groups, type, "{%" #a ", %" #a1 ", %" #a2 ", %" #a3 "}", scale) \
  ", %" #b ", p, 1, 1, %" #tb ";\n}\n"
#define FLASHRT_WGMMA(N, groups, o0, o1, o2, o3, o4, o5, o6)                                          \
  template <>                                                                                         \
  struct WgmmaShape<N> {                                                                              \
    template <class T, int TransA, int TransB>                                                        \
    __device__ static __forceinline__ void ss(float (&d)[N / 2], uint64_t a, uint64_t b, int scale) { \
      if constexpr (std::is_same_v<T, __half>)                                                        \
        asm volatile(FLASHRT_WGMMA_SS(N, groups, "f16", o0, o1, o2, o3, o4)                           \
                     : FLASHRT_OUTS_##groups                                                          \
                     : "l"(a), "l"(b), "r"(scale), "n"(TransA), "n"(TransB));                         \
      else                                                                                            \
        asm volatile(FLASHRT_WGMMA_SS(N, groups, "bf16", o0, o1, o2, o3, o4)                          \
                     : FLASHRT_OUTS_##groups                                                          \
                     : "l"(a), "l"(b), "r"(scale), "n"(TransA), "n"(TransB));                         \
    }                                                                                                 \
    template <class T, int TransB>                                                                    \
    __device__ static __forceinline__ void rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,  \
                                              int scale) {                                            \
      if constexpr (std::is_same_v<T, __half>)                                                        \
        asm volatile(FLASHRT_WGMMA_RS(N, groups, "f16", o0, o1, o2, o3, o4, o5, o6)                   \
                     : FLASHRT_OUTS_##groups                                                          \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale), "n"(TransB));  \
      else                                                                                            \
        asm volatile(FLASHRT_WGMMA_RS(N, groups, "bf16", o0, o1, o2, o3, o4, o5, o6)                  \
                     : FLASHRT_OUTS_##groups                                                          \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale), "n"(TransB));  \
    }                                                                                                 \
  };
FLASHRT_WGMMA(8, 1, 4, 5, 6, 7, 8, 9, 10)
FLASHRT_WGMMA(16, 2, 8, 9, 10, 11, 12, 13, 14)
FLASHRT_WGMMA(24, 3, 12, 13, 14, 15, 16, 17, 18)
FLASHRT_WGMMA(32, 4, 16, 17, 18, 19, 20, 21, 22)
FLASHRT_WGMMA(40, 5, 20, 21, 22, 23, 24, 25, 26)
FLASHRT_WGMMA(48, 6, 24, 25, 26, 27, 28, 29, 30)
FLASHRT_WGMMA(56, 7, 28, 29, 30, 31, 32, 33, 34)
FLASHRT_WGMMA(64, 8, 32, 33, 34, 35, 36, 37, 38)
FLASHRT_WGMMA(72, 9, 36, 37, 38, 39, 40, 41, 42)
FLASHRT_WGMMA(80, 10, 40, 41, 42, 43, 44, 45, 46)
FLASHRT_WGMMA(88, 11, 44, 45, 46, 47, 48, 49, 50)
FLASHRT_WGMMA(96, 12, 48, 49, 50, 51, 52, 53, 54)
FLASHRT_WGMMA(104, 13, 52, 53, 54, 55, 56, 57, 58)
FLASHRT_WGMMA(112, 14, 56, 57, 58, 59, 60, 61, 62)
FLASHRT_WGMMA(120, 15, 60, 61, 62, 63, 64, 65, 66)
FLASHRT_WGMMA(128, 16, 64, 65, 66, 67, 68, 69, 70)
FLASHRT_WGMMA(136, 17, 68, 69, 70, 71, 72, 73, 74)
FLASHRT_WGMMA(144, 18, 72, 73, 74, 75, 76, 77, 78)
FLASHRT_WGMMA(152, 19, 76, 77, 78, 79, 80, 81, 82)
FLASHRT_WGMMA(160, 20, 80, 81, 82, 83, 84, 85, 86)
FLASHRT_WGMMA(168, 21, 84, 85, 86, 87, 88, 89, 90)
FLASHRT_WGMMA(176, 22, 88, 89, 90, 91, 92, 93, 94)
FLASHRT_WGMMA(184, 23, 92, 93, 94, 95, 96, 97, 98)
FLASHRT_WGMMA(192, 24, 96, 97, 98, 99, 100, 101, 102)
FLASHRT_WGMMA(200, 25, 100, 101, 102, 103, 104, 105, 106)
FLASHRT_WGMMA(208, 26, 104, 105, 106, 107, 108, 109, 110)
FLASHRT_WGMMA(216, 27, 108, 109, 110, 111, 112, 113, 114)
FLASHRT_WGMMA(224, 28, 112, 113, 114, 115, 116, 117, 118)
FLASHRT_WGMMA(232, 29, 116, 117, 118, 119, 120, 121, 122)
FLASHRT_WGMMA(240, 30, 120, 121, 122, 123, 124, 125, 126)
FLASHRT_WGMMA(248, 31, 124, 125, 126, 127, 128, 129, 130)
FLASHRT_WGMMA(256, 32, 128, 129, 130, 131, 132, 133, 134)
#undef FLASHRT_REGS_1
#undef FLASHRT_OUTS_1
#undef FLASHRT_REGS_2
#undef FLASHRT_OUTS_2
#undef FLASHRT_REGS_3
#undef FLASHRT_OUTS_3
#undef FLASHRT_REGS_4
#undef FLASHRT_OUTS_4
#undef FLASHRT_REGS_5
#undef FLASHRT_OUTS_5
#undef FLASHRT_REGS_6
#undef FLASHRT_OUTS_6
#undef FLASHRT_REGS_7
#undef FLASHRT_OUTS_7
#undef FLASHRT_REGS_8
#undef FLASHRT_OUTS_8
#undef FLASHRT_REGS_9
#undef FLASHRT_OUTS_9
#undef FLASHRT_REGS_10
#undef FLASHRT_OUTS_10
#undef FLASHRT_REGS_11
#undef FLASHRT_OUTS_11
#undef FLASHRT_REGS_12
#undef FLASHRT_OUTS_12
#undef FLASHRT_REGS_13
#undef FLASHRT_OUTS_13
#undef FLASHRT_REGS_14
#undef FLASHRT_OUTS_14
#undef FLASHRT_REGS_15
#undef FLASHRT_OUTS_15
#undef FLASHRT_REGS_16
#undef FLASHRT_OUTS_16
#undef FLASHRT_REGS_17
#undef FLASHRT_OUTS_17
#undef FLASHRT_REGS_18
#undef FLASHRT_OUTS_18
#undef FLASHRT_REGS_19
#undef FLASHRT_OUTS_19
#undef FLASHRT_REGS_20
#undef FLASHRT_OUTS_20
#undef FLASHRT_REGS_21
#undef FLASHRT_OUTS_21
#undef FLASHRT_REGS_22
#undef FLASHRT_OUTS_22
#undef FLASHRT_REGS_23
#undef FLASHRT_OUTS_23
#undef FLASHRT_REGS_24
#undef FLASHRT_OUTS_24
#undef FLASHRT_REGS_25
#undef FLASHRT_OUTS_25
#undef FLASHRT_REGS_26
#undef FLASHRT_OUTS_26
#undef FLASHRT_REGS_27
#undef FLASHRT_OUTS_27
#undef FLASHRT_REGS_28
#undef FLASHRT_OUTS_28
#undef FLASHRT_REGS_29
#undef FLASHRT_OUTS_29
#undef FLASHRT_REGS_30
#undef FLASHRT_OUTS_30
#undef FLASHRT_REGS_31
#undef FLASHRT_OUTS_31
#undef FLASHRT_REGS_32
#undef FLASHRT_OUTS_32
#undef FLASHRT_OUT
#undef FLASHRT_OUT4
#undef FLASHRT_WGMMA
#undef FLASHRT_WGMMA_SS
#undef FLASHRT_WGMMA_RS
#undef FLASHRT_WGMMA_TEXT

// d = A·B (scale_d = 0) or d + A·B (scale_d = 1): A [64, 16] and B [16, N] from shared memory. By default
// both are K-major; TransA / TransB says that the descriptor is MN-major.
template <int N, bool TransB = false, class T = __nv_bfloat16, bool TransA = false>
__device__ __forceinline__ void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {
  WgmmaShape<N>::template ss<T, TransA, TransB>(d, a, b, scale_d);
}

// The same with A in registers: a[0..3] = rows r, r+8 of k-values 2·(t%4)+{0,1}, then of those + 8.
template <int N, bool TransB = false, class T = __nv_bfloat16>
__device__ __forceinline__ void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {
  WgmmaShape<N>::template rs<T, TransB>(d, a, b, scale_d);
}

}  // namespace flashrt
