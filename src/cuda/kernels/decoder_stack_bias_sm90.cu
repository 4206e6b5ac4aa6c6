// The shift of a norm, folded through the matrix behind it; once per program.
#include "cuda/kernels/common/decoder_stack_params.h"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// bias[n] = Σ w[n, k]·shift[k], once per program; one warp per row.
extern "C" __global__ void __launch_bounds__(256)
    decoder_stack_bias(const __grid_constant__ StackBiasParams p) {
  pdl_launch();
  pdl_wait();
  const int row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= p.n) return;
  const __nv_bfloat16* w = p.w + static_cast<size_t>(row) * p.k;
  float sum = 0.f;
  for (int k = lane_id(); k < p.k; k += 32) sum = fmaf(__bfloat162float(w[k]), p.shift[k], sum);
  for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (lane_id() == 0) p.bias[row] = sum;
}

}  // namespace flashrt
