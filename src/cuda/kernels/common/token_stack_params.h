// Launch parameters of the persistent token stack; plain data, shared by host and device code.
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "cuda/kernels/common/row_params.h"

namespace flashrt {

constexpr int kTokenWarps = 8, kTokenLoaders = 4;  // warps that multiply; that load, a few rings each
constexpr int kTokenThreads = (kTokenWarps + kTokenLoaders) * 32;
// Every multiplying warp has a ring of its own. A stage holds up to 2,048 columns of two rows, or a tile of
// keys and of values.
constexpr int kTokenStageBytes = 8192, kTokenStageColumns = 2048, kTokenMostSlots = 4;
constexpr int kTokenMostQueries = 8;  // heads that share a key head
constexpr int kTokenMostSplits = 32;  // key ranges of a head
constexpr int kTokenMostExperts = 256, kTokenMostUsed = 16;
constexpr int kTokenMostOwn = 64;        // units of the residual stream per block
constexpr int kTokenSharedBytes = 2448;  // barriers and small things
constexpr int token_tile_keys(int head_dim) { return kTokenStageColumns / head_dim; }

// Every vector is f32, norms multiply by 1 + them. Null where a layer has none.
struct TokenLayer {
  const uint8_t *qkv, *out, *router, *gate_up, *down;
  const float *norm1, *norm2, *qkv_bias, *q_norm, *k_norm;
  __nv_bfloat16 *k_cache, *v_cache;  // [capacity, kv_heads·head_dim]
  int windowed, unused[3];
};
struct TokenMaps {
  CUtensorMap k, v;  // the caches as [columns/64, capacity, 64]; box: a tile, 128-byte swizzle
};

enum TokenWork { kTokenQkv, kTokenOut, kTokenRouter, kTokenGateUp, kTokenDown, kTokenHead, kTokenWorks };

// One matrix. Work is counted in units of two rows of w: (2u, 2u + 1), or (gate u, up u). Block b takes the
// units (b − shift) mod blocks, and every `blocks`-th after it; the shifts spread what is left over.
struct TokenProduct {
  int units, shift;
  int turn;                // the warp that takes a block's first unit
  int columns, row_bytes;  // of a row of w
  int stages;              // of a unit
  int last_columns;  // of its last stage; the others have kTokenStageColumns (or `segments` experts' columns)
  int segments;      // experts' rows of a stage; 1: no experts
  int second;        // where in a stage the second row begins
  int64_t apart, step;  // bytes from the first row to the second; from a unit to the next
};

// Hand-off buffers: two sets of them, in bytes from `exchange`. A half-word (f32: a word) of 0 says "not
// written yet"; zeros are written as -0.
struct TokenExchange {
  size_t before;      // of two columns each: x·(1 + norm) as bf16, and Σx²; what qkv multiplies
  size_t between;     // the same before the MLP
  size_t qkv;         // bf16
  size_t partial;     // f32 [kv_heads, splits, group, head_dim]: sums of values over a range of keys
  size_t extent;      // f32 [kv_heads, splits, group, 2]: the largest score, and the sum of weights
  size_t attended;    // bf16 [heads·head_dim]
  size_t router;      // f32 [experts]
  size_t hidden;      // bf16 [used·mlp]
  size_t set;         // bytes of a set
  size_t generation;  // int: layers run so far; behind the sets
  size_t bytes;
};

struct TokenStackParams {
  const TokenLayer* layers;
  const TokenMaps* maps;
  int layer_count;
  int width, mlp, heads, kv_heads,
      group;                     // group: heads per key head; mlp of an expert, where there are experts
  int experts, used, normalise;  // 0 experts: dense
  int capacity, window, splits;
  int slots;      // of a ring
  int in_flight;  // stages that a loading warp has on their way at once, 1 … 4
  int pace;   // ns between two of its stages, or 0: what queues in front of the memory delays the hand-offs
  int ahead;  // units of the next layer's qkv that each loading warp brings to L2 while experts are chosen
  int x_at, x_bytes, queries_at, shared_at, layers_at;  // in shared memory, behind the rings
  float eps, head_eps, score_scale;                     // score_scale: softmax scale · log2 e
  PointFunction function;
  TokenProduct product[kTokenWorks];
  const int* position;     // keys before this token's
  const float* rope;       // [positions, head_dim]: (cos, sin) pairs
  const __nv_bfloat16* x;  // [width], or the table of embeddings when `ids` is given
  const int* ids;
  int vocabulary;
  float scale;  // of embeddings
  const float* norm;
  const uint8_t* head;
  float* logits;
  uint8_t* exchange;
  TokenExchange at;
  unsigned long long* trace;  // null, or ns, [blocks][layers + 1][kTokenWorks + 1][16]: see TokenBlock::mark
};

}  // namespace flashrt
