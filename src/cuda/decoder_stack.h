// Geometry of the persistent decoder stack: buffers, tensor maps, launch. Needs the CUDA headers alone.
#pragma once
#include <cuda.h>

#include "cuda/kernels/common/decoder_stack_params.h"

namespace flashrt {

// Offsets of the hand-off buffers for `rows` rows; `bytes` in all, to be zeroed once, never between launches.
StackExchange stack_exchange(int rows);

// The matrices of one layer, bf16, rows packed; keys and values [capacity, 256].
struct StackMatrices {
  const void *qkv, *out, *gate_up, *down, *keys, *values;
  int capacity;
};
// False when the driver refuses a tensor map (rows not on 16 bytes).
bool encode_stack_layer(const StackMatrices& m, decltype(&cuTensorMapEncodeTiled) encode, StackLayer* layer);

struct StackLaunch {
  const char* kernel;
  unsigned grid, block, shared_bytes;
  int stages, pace;  // of the weight ring; clocks between two of its loads
};
// For `rows` rows, 8 … 64.
StackLaunch plan_decoder_stack(int rows);

}  // namespace flashrt
