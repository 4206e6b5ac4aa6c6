// The linear rows of sm_90: the streaming kernels for few rows, and the wgmma kernel for hundreds.
#pragma once

#include "cuda/implementation.h"
#include "cuda/tuning.h"

namespace flashrt::cuda {

bool fits_linear_stream(const Problem& p);
void launch_linear_stream(const Problem& p, std::vector<Launch>& out);

bool fits_linear_wgmma(const Problem& p);
void launch_linear_wgmma(const Problem& p, std::vector<Launch>& out);

// The line's choices under `implementation` as rows of the tuning table, the present one first; empty where
// nothing can be chosen.
std::vector<TunedRow> linear_tactics(const Problem& p, std::string_view implementation);

}  // namespace flashrt::cuda
