// Launch geometry of the sm_90 matrix-vector kernels, and their place in the table of linears.
#pragma once

#include "cuda/implementation.h"
#include "cuda/kernels/common/linear_gemv_params.h"

namespace flashrt::cuda {

// What the geometry needs to know of a weight decoder (kernels/common/weight_decoders.cuh).
struct GemvLayout {
  int groups = 1, step_bytes = 512;
};

// Free to choose: about how many steps a load has, shared memory of a block, how many steps (one or two) of a
// load a warp takes, how many bytes of the next product's weights go to L2. The benchmark varies them.
struct GemvTactic {
  int chunk_steps = 16, shared = 92 * 1024, warp_steps = 2, ahead = 8 << 20;
};
GemvTactic& default_gemv_tactic();

constexpr int kGemvBlock = 288;  // threads: eight multiplying warps and one that fetches

// Fills the geometry from m, n, k, row_bytes; returns the shared memory of a block. `chunk_columns` > 0 fixes
// the columns of a chunk (experts). `rows` of x per instance: 1 or 4.
int plan_linear_gemv(LinearGemvParams& p, const GemvLayout& layout, int rows, int chunk_columns = 0);

bool fits_linear_gemv(const Problem& p);
void launch_linear_gemv(const Problem& p, std::vector<Launch>& out);

}  // namespace flashrt::cuda
