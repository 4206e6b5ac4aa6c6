// Pointwise activations and gated pairs: one op with a kind.
#pragma once

#include "ops/record.h"

namespace flashrt {

enum class Activation : int32_t { none, gelu, silu, geglu, swiglu };

constexpr bool is_pair(Activation a) { return a == Activation::geglu || a == Activation::swiglu; }

// gelu: the tanh form, x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³))) (Hendrycks & Gimpel 2016). silu:
// x·sigmoid(x).
Tensor gelu(Tensor x, At at = At::current());
Tensor silu(Tensor x, At at = At::current());
// x [rows, 2n] holds gate | up; y [rows, n] = gelu(gate)·up, or silu(gate)·up. (Shazeer 2020)
Tensor geglu(Tensor x, At at = At::current());
Tensor swiglu(Tensor x, At at = At::current());

extern const OpDef kActivationOp;  // operand x; attributes: an Activation

float activate(Activation kind, float x);  // pairs: the function of the gate

}  // namespace flashrt
