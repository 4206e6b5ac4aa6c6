// The pointwise function of an activation, as kernels name it.
#pragma once

#include "cuda/kernels/common/row_params.h"
#include "ops/activation.h"

namespace flashrt::cuda {

constexpr PointFunction point_function_of(Activation kind) {
  switch (kind) {
    case Activation::gelu:
    case Activation::geglu: return PointFunction::gelu;
    case Activation::silu:
    case Activation::swiglu: return PointFunction::silu;
    default: return PointFunction::none;
  }
}

}  // namespace flashrt::cuda
