// Row normalisations: one op with a kind.
#pragma once

#include "ops/record.h"

namespace flashrt {

enum class NormKind : int32_t { none, layer, rms, ada_rms };

struct NormAttrs {
  NormKind kind = NormKind::rms;
  float eps = 1e-6f;
};

// y = (x − mean)/sqrt(var + eps) · w + b per row, f32 statistics. x [rows, n]; w, b [1, n]. (Ba et al. 2016)
Tensor layer_norm(Tensor x, Tensor w, Tensor b, float eps = 1e-6f, At at = At::current());

// y = x/sqrt(mean(x²) + eps) · (1 + w) per row, f32 throughout, rounded once. x [rows, n]; w [1, n].
// (Zhang & Sennrich 2019; the 1 + w is Gemma's.)
Tensor rms_norm(Tensor x, Tensor w, float eps = 1e-6f, At at = At::current());

// y = x/sqrt(mean(x²) + eps) · (1 + scale) + shift, the same scale and shift [1, n] for every row (openpi's
// adaRMS).
Tensor ada_rms_norm(Tensor x, Tensor scale, Tensor shift, float eps = 1e-6f, At at = At::current());

extern const OpDef kNormOp;  // operands x, scale, shift

// The definition of one row; scale and shift may be null: 1 and 0.
void normalize_row(NormAttrs attrs, const float* x, const float* scale, const float* shift, int64_t n,
                   float* y);

}  // namespace flashrt
