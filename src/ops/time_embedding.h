// Sine and cosine features of a flow-matching time.
#pragma once

#include "ops/record.h"

namespace flashrt {

struct TimeEmbeddingAttrs {
  double min_period = 4e-3, max_period = 4;
  int32_t in_double =
      1;  // the arguments in f64 (openpi's and LeRobot's torch code) or in f32 (JAX, transformers)
};

// y[r] = [sin(a_0) … sin(a_{n/2−1}), cos(a_0) …], a_i = t_r·2π/period_i, periods geometric from min to max
// over i/(n/2 − 1). t [rows, 1] f32, y [rows, n].
Tensor time_embedding(Tensor t, int64_t n, TimeEmbeddingAttrs attrs, At at = At::current());

extern const OpDef kTimeEmbeddingOp;

}  // namespace flashrt
