// Matrix-vector products of 1 … 4 rows of x, bound by reading the weights once.
#include "cuda/kernels/common/linear_gemv.cuh"

// grid: one block per multiprocessor; block: kGemvThreads
#define FLASHRT_GEMV(name, T, W, m, rows)                                              \
  extern "C" __global__ void __launch_bounds__(kGemvThreads, m == 1 ? 3 : 2)           \
      linear_gemv_##name##_##rows##_m##m(const __grid_constant__ LinearGemvParams p) { \
    linear_gemv_stream<T, W, m, GemvRows::rows>(p);                                    \
  }
#define FLASHRT_GEMV_ALL(name, T, W) \
  FLASHRT_GEMV(name, T, W, 1, plain) \
  FLASHRT_GEMV(name, T, W, 1, pair)  \
  FLASHRT_GEMV(name, T, W, 4, plain) \
  FLASHRT_GEMV(name, T, W, 4, pair)

namespace flashrt {
FLASHRT_GEMV_ALL(bf16, __nv_bfloat16, HalfWeights<__nv_bfloat16>)
FLASHRT_GEMV_ALL(f16, __half, HalfWeights<__half>)
}  // namespace flashrt
