// Upload through a ring of pinned buffers: host threads convert one while the copy engine sends another.
#include "cuda/weights.h"

#include <algorithm>

#include "base/error.h"
#include "base/threads.h"

namespace flashrt::cuda {

namespace {

constexpr size_t kStagingBytes = size_t{32} << 20;
constexpr size_t kStagingCount = 4;

std::string identity(const Weight& weight, DType dtype) {
  std::string key = fmt::format("{}x{} {}", weight.shape.rows, weight.shape.cols, name_of(dtype));
  for (const Weight::Part& part : weight.parts) {
    key += fmt::format(" {}+{}:{}:{}:{}", static_cast<const void*>(part.data), part.rows, part.stride,
                       int(part.dtype), part.first);
  }
  return key;
}

void convert_row(const Weight::Part& part, int64_t row, int64_t cols, DType dtype, std::byte* to) {
  if (part.packed != nullptr) {  // beside plain parts: computed with as plain elements
    thread_local std::vector<float> values;
    values.resize(size_t(cols));
    quant::decode(*part.packed, part.first + row, 1, values.data());
    for (int64_t c = 0; c < cols; ++c) store_float(to, dtype, size_t(c), values[size_t(c)]);
    return;
  }
  const std::byte* from = part.data + size_t(row * part.stride) * size_of(part.dtype);
  if (part.dtype == dtype) {
    std::memcpy(to, from, size_t(cols) * size_of(dtype));
    return;
  }
  for (int64_t c = 0; c < cols; ++c)
    store_float(to, dtype, size_t(c), load_float(from, part.dtype, size_t(c)));
}

}  // namespace

void WeightStore::copy_rows(const Weight::Part& part, int64_t cols, DType dtype, std::byte* to) {
  const int64_t stride = weight_stride(cols);
  const size_t row_bytes = size_t(stride) * size_of(dtype);
  if (row_bytes > kStagingBytes) fail("a weight row of {} elements is too wide", cols);
  const int64_t rows_at_once = int64_t(kStagingBytes / row_bytes);
  for (int64_t row = 0; row < part.rows; row += rows_at_once) {
    Staging& staging = staging_[next_++ % kStagingCount];
    checked(cudaEventSynchronize(staging.done));
    auto* host = static_cast<std::byte*>(staging.memory.get());
    const int64_t count = std::min(rows_at_once, part.rows - row);
    parallel_for(count, std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(cols, 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     convert_row(part, row + r, cols, dtype, host + size_t(r) * row_bytes);
                     const size_t used = size_t(cols) * size_of(dtype);
                     std::memset(host + size_t(r) * row_bytes + used, 0, row_bytes - used);
                   }
                 });
    const size_t bytes = size_t(count) * row_bytes;
    checked(cudaMemcpyAsync(to + size_t(row) * row_bytes, host, bytes, cudaMemcpyHostToDevice, stream_));
    checked(cudaEventRecord(staging.done, stream_));
    bytes_ += bytes;
    if (bytes_done_ && bytes_ - reported_ > (size_t{64} << 20)) bytes_done_(reported_ = bytes_);
  }
}

void* WeightStore::upload(const Weight& weight, DType dtype) {
  if (weight.format()) {
    fail_device("{}: weights in {} have no layout on this device yet", weight.name,
                quant::name_of(*weight.format()));
  }
  Memory& memory = held_[identity(weight, dtype)];
  if (memory) return memory.get();
  if (staging_.empty()) {
    checked(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    staging_.resize(kStagingCount);
    for (Staging& staging : staging_) {
      staging.memory = allocate_pinned(kStagingBytes);
      checked(cudaEventCreateWithFlags(&staging.done, cudaEventDisableTiming));
    }
  }
  const size_t row_bytes = size_t(weight_stride(weight.shape.cols)) * size_of(dtype);
  // 128 bytes beyond the end: kernels may fetch whole vectors past the last row.
  memory = allocate(size_t(weight.shape.rows) * row_bytes + 128, weight.name.c_str());
  auto* to = static_cast<std::byte*>(memory.get());
  for (const Weight::Part& part : weight.parts) {
    copy_rows(part, weight.shape.cols, dtype, to);
    to += size_t(part.rows) * row_bytes;
  }
  return memory.get();
}

void WeightStore::finish() {
  if (staging_.empty()) return;
  checked(cudaStreamSynchronize(stream_));
  for (Staging& staging : staging_) cudaEventDestroy(staging.done);
  staging_.clear();
  cudaStreamDestroy(stream_);
  stream_ = nullptr;
  if (bytes_done_) bytes_done_(bytes_);
}

}  // namespace flashrt::cuda
