// The matrix-vector products of a mixture of experts: the rows of the chosen experts, without asking the
// host.
#include "cuda/kernels/common/linear_gemv.cuh"

// grid: (one block per multiprocessor, rows of x); block: kGemvThreads
#define FLASHRT_EXPERTS(name, T, part, rows)                                        \
  extern "C" __global__ void __launch_bounds__(kGemvThreads, 3)                     \
      experts_gemv_##name##_##part(const __grid_constant__ LinearGemvParams p) {    \
    linear_gemv_stream<T, HalfWeights<T>, 1, GemvRows::rows, GemvExperts::part>(p); \
  }

namespace flashrt {
FLASHRT_EXPERTS(bf16, __nv_bfloat16, gate_up, pair)
FLASHRT_EXPERTS(bf16, __nv_bfloat16, down, plain)
FLASHRT_EXPERTS(f16, __half, gate_up, pair)
FLASHRT_EXPERTS(f16, __half, down, plain)
}  // namespace flashrt
