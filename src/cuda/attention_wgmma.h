// Launch geometry and tensor maps of the sm_90 attention kernels: which kernel serves a problem, and with
// what grid.
#pragma once
#include <cuda_runtime_api.h>

#include <span>

#include "cuda/kernels/common/attention_params.h"

namespace flashrt {

// One instance and how it is spread: `splits` key ranges per row tile (1–8, the blocks of a cluster),
// `tile_tokens` query tokens per block (0: as many as fit).
struct AttentionTactic {
  const char* kernel = nullptr;
  int splits = 1;
  int tile_tokens = 0;
};

// Everything a launch needs; the two kernel arguments are `maps` and `args`, in this order.
struct AttentionLaunch {
  const char* kernel;
  dim3 grid, block;
  unsigned cluster;  // blocks per cluster along x
  unsigned smem;     // dynamic, opt in with cudaFuncAttributeMaxDynamicSharedMemorySize
  AttentionMaps maps;
  AttentionArgs args;
};

// All tactics that can run the problem (pointers are not looked at), the preferred one first; returns the
// number written. Zero: no kernel here supports it.
int attention_wgmma_tactics(const AttentionParams& p, std::span<AttentionTactic> out);

// Encodes the tensor maps and the grid. Returns null, or why it cannot be done.
const char* attention_wgmma_prepare(const AttentionParams& p, const AttentionTactic& tactic,
                                    AttentionLaunch& launch);

// Names of all kernels, for opting in and for tests.
std::span<const char* const> attention_wgmma_kernels();

}  // namespace flashrt
