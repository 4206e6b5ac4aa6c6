// One Euler step of flow matching between two passes of the network: final norm, 32-wide output projection,
// update of the f32 state, input projection of the next pass. One block per token; the weights wait in
// registers for the hidden state, so the step costs two block reductions and little else.
#include "cuda/kernels/common/flow_step_params.h"
#include "cuda/kernels/common/linear_stream_stage.cuh"
#include "cuda/kernels/common/pdl.cuh"

namespace flashrt {
namespace {

constexpr int kThreads = 512, kActions = 32, kWidth = 1024;

__device__ __forceinline__ float block_sum(float v, float* scratch) {
  v = warp_sum(v);
  if (lane_id() == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  return warp_sum(lane_id() < kThreads / 32 ? scratch[lane_id()] : 0.f);
}

__device__ __forceinline__ float dot8(uint4 w, const float* x, float acc) {
  const uint32_t u[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = unpack2<__nv_bfloat16>(u[i]);
    acc = fmaf(f.x, x[2 * i], fmaf(f.y, x[2 * i + 1], acc));
  }
  return acc;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(512) flow_step(const __grid_constant__ FlowStepParams p) {
  __shared__ __align__(16) float normed[kWidth];
  __shared__ __align__(16) float state[kActions];
  __shared__ float scratch[2][32];
  const int t = threadIdx.x, token = blockIdx.x;
  const int action = t / 16, part = t % 16;  // the output dot: 16 threads per action, 8 columns each in turn
  pdl_launch();

  uint4 w_out[kWidth / 128], w_in[2][kActions / 8];
  float scale[2] = {0.f, 0.f}, shift[2] = {0.f, 0.f}, b_in[2];
#pragma unroll
  for (int j = 0; j < kWidth / 128; ++j) {
    const int c = j * 128 + part * 8;
    w_out[j] = make_uint4(0, 0, 0, 0);
    if (p.hidden != nullptr && c < p.width)
      w_out[j] = __ldg(reinterpret_cast<const uint4*>(p.w_out + static_cast<size_t>(action) * p.width + c));
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = t + r * kThreads;
    const bool in = row < p.width;
#pragma unroll
    for (int j = 0; j < kActions / 8; ++j)
      w_in[r][j] = in && p.out != nullptr ? __ldg(reinterpret_cast<const uint4*>(p.w_in + row * kActions) + j)
                                          : make_uint4(0, 0, 0, 0);
    b_in[r] = in && p.b_in != nullptr ? __ldg(p.b_in + row) : 0.f;
    if (2 * t + r < p.width && p.hidden != nullptr) {
      scale[r] = 1.f + __ldg(p.norm_scale + 2 * t + r);
      shift[r] = p.norm_shift != nullptr ? __ldg(p.norm_shift + 2 * t + r) : 0.f;
    }
  }
  const float b_out = p.b_out != nullptr ? __ldg(p.b_out + action) : 0.f;
  pdl_wait();

  const float* x = p.state + static_cast<size_t>(token) * kActions;
  if (p.hidden == nullptr) {
    if (t < kActions) state[t] = __ldcg(x + t);
  } else {
    const float old = __ldcg(x + action);
    float2 h = make_float2(0.f, 0.f);
    if (2 * t < p.width)
      h = unpack2<__nv_bfloat16>(
          __ldcg(reinterpret_cast<const unsigned*>(p.hidden + static_cast<size_t>(token) * p.width) + t));
    const float rstd =
        rsqrt_approx(block_sum(fmaf(h.x, h.x, h.y * h.y), scratch[0]) / static_cast<float>(p.width) + p.eps);
    normed[2 * t] = fmaf(h.x * rstd, scale[0], shift[0]);
    normed[2 * t + 1] = fmaf(h.y * rstd, scale[1], shift[1]);
    __syncthreads();
    float v = 0.f;
#pragma unroll
    for (int j = 0; j < kWidth / 128; ++j) {
      float column[8];
      *reinterpret_cast<float4*>(column) = *reinterpret_cast<const float4*>(normed + j * 128 + part * 8);
      *reinterpret_cast<float4*>(column + 4) =
          *reinterpret_cast<const float4*>(normed + j * 128 + part * 8 + 4);
      v = dot8(w_out[j], column, v);
    }
#pragma unroll
    for (int o = 8; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
    if (part == 0) {
      const float updated = fmaf(p.dt, v + b_out, old);
      state[action] = updated;
      p.next_state[static_cast<size_t>(token) * kActions + action] = updated;
    }
  }
  if (p.out == nullptr) return;
  __syncthreads();

  float squares = 0.f;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = t + r * kThreads;
    float acc = b_in[r];
#pragma unroll
    for (int j = 0; j < kActions / 8; ++j) acc = dot8(w_in[r][j], state + 8 * j, acc);
    if (row < p.width) {
      const __nv_bfloat16 y = __float2bfloat16_rn(acc);
      p.out[static_cast<size_t>(token) * p.width + row] = y;
      squares = fmaf(__bfloat162float(y), __bfloat162float(y), squares);
    }
  }
  if (p.stat_out != nullptr) {
    const float sum = block_sum(squares, scratch[1]);
    if (t < 4) p.stat_out[token * 4 + t] = t == 0 ? sum : 0.f;
  }
}

}  // namespace flashrt
