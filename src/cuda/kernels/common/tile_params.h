// Launch parameters of the portable linear and attention kernels; plain data, shared by host and device code.
#pragma once
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

// out = residual[r % period] + gate · activation(x[m, k] · w[n, k]ᵀ + bias); a pair halves the columns.
struct LinearTileParams {
  Source x, w;
  Source bias, residual, gate;  // absent: null
  Target y;                     // [m, n], or [m, n/2] for a pair
  int m, n, k;
  int period;  // rows of the residual
  PointFunction function;
  bool pair;
  bool packed;         // rows of x and w start on 16 bytes
  bool known_weights;  // w is no other kernel's result: it may be read before the predecessor ends
};

// Attention of `rows` queries per segment over capacity keys, of which min(capacity, keys + *length) exist.
struct AttentionTileParams {
  Source q, k, v;     // first element of head 0
  Target out;         // [segments·rows, heads·head_dim]
  const int* length;  // null: 0
  int rows, capacity, keys, lead_rows;
  int heads, kv_heads, head_dim;
  int window;  // each row sees at most this many of its last keys; 0: all
  bool causal;
  float scale;  // of the logits
};

}  // namespace flashrt
