// Launch parameters of the memory-bound kernels; plain data, shared by host and device code.
// `packed` says that every row starts on 16 bytes and every width is a multiple of 8 elements.
#pragma once
#include "cuda/kernels/common/element.h"

namespace flashrt {

enum class NormRule : int { layer, rms };  // rms: weights are 1 + scale
enum class PointFunction : int { none, gelu, silu };

struct NormParams {
  Source x, scale, shift;  // [rows, cols], [1, cols], [1, cols] or absent
  Target y;
  int cols;
  NormRule rule;
  float eps;
  bool packed;
};

struct ActivationParams {
  Source x;  // [rows, cols], or gate | up: [rows, 2·cols] for a pair
  Target y;
  int rows, cols;
  PointFunction function;
  bool pair, packed;
};

struct ResidualParams {
  Source x, y, gate;  // [period, cols], [rows, cols], [1, cols] or absent
  Target out;
  int rows, cols, period;
  bool packed;
};

// Rows of x to rows of y, from y's row *position on; y holds `capacity` rows and is never written beyond
// them.
struct CopyParams {
  Source x;
  Target y;
  const int* position;  // null: 0
  int rows, cols, capacity;
  bool packed;
};

// Heads [0, rotated_heads) of x are rotated; head h goes to target 0, 1 or 2 by where its columns lie.
struct RopeParams {
  Source x;     // [rows, (heads[0] + heads[1] + heads[2])·head_dim]
  Target y[3];  // q, and the caches of k and v, which are appended to at *position
  int heads[3];
  int rotated_heads;
  int rows, head_dim, capacity, positions;  // rows of the caches, rows of the table
  const float* table;                       // [positions, head_dim] of (cos, sin) pairs
  const int* position;                      // null: 0
};

struct EmbeddingParams {
  const int* ids;  // [rows]
  Source table;
  Target y;
  int rows, cols, vocabulary;
  float scale;
  bool packed;
};

struct PositionEmbeddingParams {
  Source x, table;  // [rows, cols], [positions, cols]
  Target y;
  const int* position;  // null: 0
  int rows, cols, positions;
  bool packed;
};

struct PatchParams {
  const void* image;  // bytes: u8 [views, size, size, 3]; else f32 [views, 3, size, size]
  Target y;           // [views·(size/patch)², cols]
  int rows, cols, size, patch;
  bool bytes;
};

struct TimeEmbeddingParams {
  const float* t;  // [rows]
  Target y;        // [rows, 2·half]
  int rows, half;
  double min_period, max_period;
  bool in_double;
};

struct EulerParams {
  const float* x;
  Source v;  // contiguous, as all three
  float* y;
  int64_t size;
  float dt;
};

}  // namespace flashrt
