// Host side of the wgmma linear kernel: from a problem, an epilogue and a tactic to one launch.
#pragma once
#include <string>
#include <vector>

#include "cuda/kernels/common/linear_params.h"

namespace flashrt {

// Tile and cluster numbers; which are good for a problem is a measurement.
struct LinearTactic {
  int rows = 128;          // weight rows per block: 64, 128, 192 or 256
  int tokens = 128;        // tokens per block, a multiple of 8
  int cluster_rows = 1;    // blocks that share each token tile by multicast
  int cluster_tokens = 1;  // blocks that share each weight tile by multicast
  int split = 1;           // blocks that share the k range of one tile
  int resident = 1;        // blocks that shall fit on an SM: 2 (64 rows only) halves the ring
  int cluster() const { return cluster_rows * cluster_tokens * split; }
};

// x [m, k], w [n, k] row-major, 16-bit elements; strides in elements, multiples of 8.
struct LinearProblem {
  int m = 0, n = 0, k = 0;
  const void* x = nullptr;
  const void* w = nullptr;
  int64_t x_stride = 0, w_stride = 0;
  LinearRows rows = LinearRows::plain;
};

struct LinearLaunch {
  std::string kernel;                                        // name in the module
  int grid = 0, cluster = 0, threads = 0, shared_bytes = 0;  // launch with the cluster attribute even for 1
  LinearParams params;                                       // the kernel's one argument
};

// Why the tactic cannot run the problem; empty when it can. `epilogue` carries the epilogue fields of
// LinearParams.
std::string linear_refusal(const LinearProblem& problem, const LinearParams& epilogue,
                           const LinearTactic& tactic);

// Tactics that can run the problem on `sms` processors, by estimated time; the first is a fair default, the
// first ten or so are worth timing. Empty when the kernel does not support the problem.
std::vector<LinearTactic> linear_candidates(const LinearProblem& problem, const LinearParams& epilogue,
                                            int sms);

// max_clusters: clusters of this launch that are resident at once (cudaOccupancyMaxActiveClusters), or SMs /
// cluster. Throws std::invalid_argument with the refusal, std::runtime_error when the driver rejects a tensor
// map.
LinearLaunch plan_linear(const LinearProblem& problem, const LinearParams& epilogue,
                         const LinearTactic& tactic, int max_clusters);

}  // namespace flashrt
