// Weights on the device: uploaded once, converted to the type the program computes with, shared by programs.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device.h"

namespace flashrt::cuda {

// Bytes of `weight` on the device as `dtype`: rows at weight_stride(cols) elements, packed formats (u8) as
// packed_layout.h says.
size_t device_bytes(const Weight& weight, DType dtype);

class WeightStore {
 public:
  // `bytes_done` is told of progress, in bytes uploaded so far.
  explicit WeightStore(std::function<void(size_t)> bytes_done = {}) : bytes_done_(std::move(bytes_done)) {}

  // The device copy of `weight` as `dtype`; uploaded when first asked for.
  void* upload(const Weight& weight, DType dtype);
  // Memory for what of these is not there yet, in one piece: pieces of their own are rounded up to 2 MiB
  // each.
  void reserve(std::span<const std::pair<const Weight*, DType>> weights);
  void finish();  // waits for the uploads and frees the staging buffers
  size_t bytes() const { return bytes_; }

 private:
  struct Staging {
    Memory memory;
    cudaEvent_t done = nullptr;
  };
  void send(int64_t items, size_t item_bytes, std::byte* to,
            const std::function<void(int64_t first, int64_t count, std::byte* host)>& fill);
  void copy_packed(const Weight& weight, std::byte* to);
  void copy_rows(const Weight::Part& part, int64_t cols, DType dtype, std::byte* to);

  void* take(size_t bytes, const char* purpose);

  std::map<std::string, void*> held_;
  std::vector<Memory> memory_;
  std::byte* free_ = nullptr;  // of the last piece
  size_t room_ = 0;
  std::vector<Staging> staging_;
  size_t next_ = 0, bytes_ = 0, reported_ = 0;
  cudaStream_t stream_ = nullptr;
  std::function<void(size_t)> bytes_done_;
};

}  // namespace flashrt::cuda
