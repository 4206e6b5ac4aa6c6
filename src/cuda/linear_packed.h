// The sm_90 linears of packed weights, in the table of linears.
#pragma once

#include "cuda/implementation.h"

namespace flashrt::cuda {

// Free to choose: shared memory of a block, steps of a load, and when the successor may start (0: at once; 1:
// when all loads are issued; 2: at the end).
struct PackedTactic {
  int shared = 92 * 1024, narrow_chunk = 16, wide_chunk = 8, trigger = 0;
};
PackedTactic& default_packed_tactic();

bool fits_linear_packed(const Problem& p);
void launch_linear_packed(const Problem& p, std::vector<Launch>& out);

}  // namespace flashrt::cuda
