// Geometry of the persistent token stack: products, hand-off buffers, tensor maps, launch. Needs the CUDA
// headers alone.
#pragma once
#include <cuda.h>

#include "cuda/kernels/common/token_stack_params.h"

namespace flashrt {

struct TokenShape {
  int layers, width, mlp, heads, kv_heads, head_dim, vocabulary;
  int experts = 0, used = 0;  // mlp is an expert's, where there are experts
  int capacity;
};

struct TokenLaunch {
  const char* kernel;
  unsigned grid, block, shared_bytes;
};

// Fills in what follows from the shape: products, offsets, ring, splits; false when the kernel is not made
// for it. `blocks`: of the device.
bool plan_token_stack(const TokenShape& shape, int blocks, TokenStackParams* params, TokenLaunch* launch);

// The caches of one layer, [capacity, kv_heads·head_dim]. False when the driver refuses a tensor map.
bool encode_token_cache(const TokenShape& shape, const void* keys, const void* values,
                        decltype(&cuTensorMapEncodeTiled) encode, TokenMaps* maps);

}  // namespace flashrt
