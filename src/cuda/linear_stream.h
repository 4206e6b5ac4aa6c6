// Launch geometry of the streaming linear kernels: which instance, how many clusters, ring depth, tensor
// maps.
#pragma once
#include <cuda.h>

#include <vector>

#include "cuda/kernels/common/linear_stream_params.h"

namespace flashrt {

// One compiled instance and its launch; every number is free to tune. Only `splits` changes the (fixed) order
// of the f32 sums.
struct StreamTactic {
  int rows;        // N of the instance: 8, 16, 32, 56 or 64; at least m
  int row_groups;  // matrix warpgroups; a tile has 64·row_groups weight rows
  int splits;      // blocks per cluster = slices of k: 1, 2, 4 or 8
  int clusters;    // each takes row tiles c, c + clusters, …
  int stages;      // ring depth, in loads of 8 KB · row_groups; at most 32
  int trigger;     // weight loads issued before successors may start; 0 = at once

  bool operator==(const StreamTactic&) const = default;
};

struct StreamLaunch {
  const char* error;  // null, or why this problem cannot be launched
  char kernel[48];    // symbol in the fatbin linear_stream_sm90
  unsigned grid, cluster, block, shared_bytes;
  LinearStreamParams params;
};

// Row tiles of the weights; 0 when the epilogue's structure does not fit tiles of this size.
int stream_tiles(const LinearStreamParams& problem, int row_groups);

// Row statistic slots that a residual launch writes per row: one per 64 columns.
int stream_stat_slots(const LinearStreamParams& problem);

// The default choice for a device with `sms` multiprocessors.
StreamTactic choose_stream_tactic(const LinearStreamParams& problem, int sms);

// Choices worth timing for a problem, the default first.
std::vector<StreamTactic> stream_candidates(const LinearStreamParams& problem, int sms);

// `problem` has the fields below `problem` in LinearStreamParams; weights is [n, k] bf16. Call once, before
// capture: addresses are baked into the tensor maps. Launch with cluster dimension `cluster`, the
// programmatic stream serialisation attribute, and a shared-memory carveout preference of 100 (on every
// kernel of the chain, or changes of the carveout drain the multiprocessor between kernels).
StreamLaunch plan_linear_stream(const LinearStreamParams& problem, const void* weights,
                                const StreamTactic& tactic, decltype(&cuTensorMapEncodeTiled) encode);

}  // namespace flashrt
