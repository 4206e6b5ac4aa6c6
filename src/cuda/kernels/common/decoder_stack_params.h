// Launch parameters of the persistent decoder stack; plain data, shared by host and device code.
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

namespace flashrt {

// What the kernel is built for. One block per multiprocessor, all of them needed at once.
constexpr int kStackBlocks = 128;
constexpr int kStackSplits = 8;     // blocks that share the k of one 64-column tile of the residual stream
constexpr int kStackHeadDim = 256;  // one key and value head
constexpr int kStackHeads = 8;
constexpr int kStackChunks = 16;  // chunks of 64 keys
constexpr int kStackWidth = 1024, kStackMlp = 4096;
constexpr int kStackLayers = 24;         // at most
constexpr int kStackStageBytes = 16384;  // of the weight ring: 64 rows · 128 k, or 32 · 256
constexpr int kStackBoxBytes = 32768;    // where two warpgroups exchange their sums
constexpr int kStackRestBytes = 3072;    // barriers, statistics, vectors

// One layer: the matrices it streams. Boxes are 64 columns · 64 rows (of qkv 32) with 128-byte swizzle; of
// qkv and gate_up they interleave 8 rows of either half (a rotary pair; gate and up).
struct StackLayer {
  CUtensorMap qkv, out, gate_up, down;
  CUtensorMap keys, values;  // [capacity, 256]
};

// One layer at one denoising step; every vector is f32.
struct StackVectors {
  const float* scale1;  // [width] norms compute x·rsqrt(mean(x²) + eps)·(1 + scale) + shift; null: 0
  const float* scale2;
  const float* bias1;  // [2560] qkv·shift, or null without a shift
  const float* bias2;  // [8192] gate_up·shift, or null
  const float* gate1;  // [width] of the residual, or null: 1
  const float* gate2;
};

// Hand-off buffers in global memory, in bytes from `exchange`. Two of an array alternate between even and odd
// layers; the lowest bit of every store says in which round of the two it was written. `Packets` of a bf16
// matrix: [steps of 16 columns][blocks of 16 rows][32 lanes] of 16 bytes, a lane's part of wgmma's A operand:
// rows lane/4 and + 8 of columns 2·(lane%4) + {0, 1}, then of those + 8.
struct StackExchange {
  size_t normed[2][2];      // [norm][parity] packets of [rows, width]: x·(1 + scale)
  size_t squares[2][2];     // [norm][parity] f32 [rows, 16]: Σx² of 64 columns
  size_t query[2];          // packets of [rows, 2048], rotated
  size_t key[2], value[2];  // bf16 [rows, 256]: this step's
  size_t weighted[2];  // packets, 16 chunks after another per step: averages of values over a chunk of keys
  size_t extent[2];    // f32 [heads, chunks, parts, 8, 2 halves]: log2 of a chunk's weight
  size_t attended[2];  // packets of [rows, 2048]
  size_t hidden[2];    // packets of [rows, mlp]
  size_t partial_out[2];  // packets, 4 steps of a tile of 64 columns: [16 tiles, 8 splits]
  size_t partial_down[2];
  size_t rounds;  // u32: how often every array has been written, over all kernels
  size_t bytes;
};

struct DecoderStackParams {
  const StackLayer* layers;
  const StackVectors* vectors;
  int layer_count;  // even, at most kStackLayers
  int rows;         // 8 … 64
  int lead_rows;    // these see the keys before position[0] + lead_rows alone
  int stages;       // of the weight ring
  int silu;         // 0: gelu_tanh
  int pace;         // clocks between two loads of a stage: a burst of weights would delay the hand-offs
  float eps, score_scale;  // score_scale: softmax scale · log2 e
  const int* position;     // keys before this step's
  const float2* rope;      // [positions, 128] (cos, sin)
  const __nv_bfloat16* x;  // [rows, width]
  __nv_bfloat16* y;        // [rows, width]; may alias x
  uint8_t* exchange;
  StackExchange at;
  unsigned long long* trace;  // null, or [blocks][layers][2 warpgroups][32] clocks
};

// bias[n] = Σ w[n, k]·shift[k]
struct StackBiasParams {
  const __nv_bfloat16* w;  // [n, k]
  const float* shift;      // [k]
  float* bias;             // [n]
  int n, k;
};

}  // namespace flashrt
