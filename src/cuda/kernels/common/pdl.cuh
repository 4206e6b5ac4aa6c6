// Programmatic dependent launch: the two halves of the edge between consecutive kernels; empty below sm_90.
#pragma once

namespace flashrt {

// Blocks until every kernel this one depends on has finished and its writes are visible.
// Every kernel of a chain must call it, even one that needs nothing, or its successor's edge means nothing.
__device__ __forceinline__ void pdl_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the successor's blocks become resident once every block of this grid has called it (or exited).
__device__ __forceinline__ void pdl_launch() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace flashrt
