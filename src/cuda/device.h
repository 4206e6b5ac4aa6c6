// The device layer: checked calls, the probe, memory that frees itself, and the embedded kernels.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <memory>
#include <optional>
#include <source_location>
#include <string>

#include "cuda/implementation.h"

namespace flashrt::cuda {

// Throws Error(device) naming the call site when a CUDA call fails.
void checked(cudaError_t code, std::source_location at = std::source_location::current());

// The first usable device (sm_80 or later), or why there is none: no driver, no device, a GPU that is too
// old.
struct Probe {
  std::optional<Device> device;
  std::string why_not;
};
Probe probe(int ordinal = 0);

// Device or pinned host memory; allocation failures say how much was asked for and how much is free.
struct Free {
  bool pinned = false;
  void operator()(void* p) const noexcept;
};
using Memory = std::unique_ptr<void, Free>;
Memory allocate(size_t bytes, const char* purpose);
Memory allocate_pinned(size_t bytes);

// A kernel of the embedded device code by its extern "C" name; throws when the build has none for this
// device.
cudaKernel_t find_kernel(const char* name);

// The driver's tensor-map encoder; throws where the driver has none.
decltype(&cuTensorMapEncodeTiled) tensor_map_function();

void launch(const Launch& launch, cudaStream_t stream);

}  // namespace flashrt::cuda
