// One explicit Euler step, in f32.
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

extern "C" __global__ void euler_step_rows(const __grid_constant__ EulerParams p) {
  pdl_launch();
  pdl_wait();
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < p.size) p.y[i] = p.x[i] + p.dt * load_element(p.v.data, p.v.type, size_t(i));
}

}  // namespace flashrt
