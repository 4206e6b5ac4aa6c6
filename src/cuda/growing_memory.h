// Device memory that grows without moving: programs that run one at a time lay their activations over each
// other in it.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <vector>

namespace flashrt::cuda {

class GrowingMemory {
 public:
  explicit GrowingMemory(int ordinal);  // addresses only
  ~GrowingMemory();
  GrowingMemory(const GrowingMemory&) = delete;

  // At least so many bytes from data() on. Throws Error(input) when the device has no room.
  void grow(size_t bytes);
  std::byte* data() const { return reinterpret_cast<std::byte*>(address_); }
  size_t bytes() const { return bytes_; }

 private:
  CUmemAllocationProp kind_{};
  size_t granularity_ = 0, reserved_ = 0, bytes_ = 0;
  CUdeviceptr address_ = 0;
  std::vector<CUmemGenericAllocationHandle> parts_;
};

}  // namespace flashrt::cuda
