// The copy of rows that append, split and concat are made of.
#pragma once

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"

namespace flashrt::cuda {

inline Launch copy_launch(const CopyParams& params) {
  return Launch::of("copy_rows", grid_of_packs(params.rows, params.cols), 256, params);
}

}  // namespace flashrt::cuda
