// The linear rows of sm_90: the streaming kernels for few rows, and the wgmma kernel for hundreds.
#pragma once

#include "cuda/implementation.h"

namespace flashrt::cuda {

bool fits_linear_stream(const Problem& p);
void launch_linear_stream(const Problem& p, std::vector<Launch>& out);

bool fits_linear_wgmma(const Problem& p);
void launch_linear_wgmma(const Problem& p, std::vector<Launch>& out);

}  // namespace flashrt::cuda
