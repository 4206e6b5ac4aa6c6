// Upload through a ring of pinned buffers: host threads convert one while the copy engine sends another.
#include "cuda/weights.h"

#include <algorithm>

#include "base/error.h"
#include "base/threads.h"
#include "cuda/packed_layout.h"
#include "tape/reference.h"

namespace flashrt::cuda {

namespace {

constexpr size_t kStagingBytes = size_t{32} << 20;
constexpr size_t kStagingCount = 4;

constexpr size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

std::string identity(const Weight& weight, DType dtype) {
  std::string key = fmt::format("{}x{} {}", weight.shape.rows, weight.shape.cols, name_of(dtype));
  for (const Weight::Part& part : weight.parts) {
    key += fmt::format(" {}+{}:{}:{}:{}", static_cast<const void*>(part.data), part.rows, part.stride,
                       int(part.dtype), part.first);
    if (part.factor != nullptr) {  // another program's factor is another vector of the same values
      const auto& values = part.factor->values;
      const std::string_view bytes(reinterpret_cast<const char*>(values.data()),
                                   values.size() * sizeof(float));
      key += fmt::format(" by {:x}{}", std::hash<std::string_view>{}(bytes),
                         part.factor->centred ? " centred" : "");
    }
  }
  return key;
}

void convert_row(const Weight::Part& part, int64_t row, int64_t cols, DType dtype, std::byte* to) {
  if (part.packed != nullptr || part.factor != nullptr) {  // computed with as plain elements
    store_weight_row({.shape = {part.rows, cols}, .parts = {part}}, row, dtype, to);
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

size_t device_bytes(const Weight& weight, DType dtype) {
  if (dtype == DType::u8) {
    check(weight.format().has_value(), "bytes are a packed format");
    return packed_layout(weight).bytes;
  }
  // 128 bytes beyond the end: kernels may fetch whole vectors past the last row.
  return size_t(weight.shape.rows * weight_stride(weight.shape.cols)) * size_of(dtype) + 128;
}

void WeightStore::copy_rows(const Weight::Part& part, int64_t cols, DType dtype, std::byte* to) {
  const size_t row_bytes = size_t(weight_stride(cols)) * size_of(dtype), used = size_t(cols) * size_of(dtype);
  send(part.rows, row_bytes, to, [&](int64_t first, int64_t count, std::byte* host) {
    for (int64_t r = 0; r < count; ++r, host += row_bytes) {
      convert_row(part, first + r, cols, dtype, host);
      std::memset(host + used, 0, row_bytes - used);
    }
  });
}

// Sends what `fill(item, count, to)` writes, `items` of `item_bytes` each.
void WeightStore::send(int64_t items, size_t item_bytes, std::byte* to,
                       const std::function<void(int64_t, int64_t, std::byte*)>& fill) {
  if (item_bytes > kStagingBytes) fail("{} bytes of a weight are too many at once", item_bytes);
  const int64_t at_once = int64_t(kStagingBytes / item_bytes);
  for (int64_t first = 0; first < items; first += at_once) {
    Staging& staging = staging_[next_++ % kStagingCount];
    checked(cudaEventSynchronize(staging.done));
    auto* host = static_cast<std::byte*>(staging.memory.get());
    const int64_t count = std::min(at_once, items - first);
    parallel_for(count, std::max<int64_t>(1, (1 << 16) / int64_t(item_bytes)),
                 [&](int64_t begin, int64_t end) {
                   fill(first + begin, end - begin, host + size_t(begin) * item_bytes);
                 });
    const size_t bytes = size_t(count) * item_bytes;
    checked(cudaMemcpyAsync(to + size_t(first) * item_bytes, host, bytes, cudaMemcpyHostToDevice, stream_));
    checked(cudaEventRecord(staging.done, stream_));
    bytes_ += bytes;
    if (bytes_done_ && bytes_ - reported_ > (size_t{64} << 20)) bytes_done_(reported_ = bytes_);
  }
}

void WeightStore::copy_packed(const Weight& weight, std::byte* to) {
  const PackedLayout layout = packed_layout(weight);
  send(layout.tiles, layout.tile_bytes, to, [&](int64_t first, int64_t count, std::byte* host) {
    pack_tiles(weight, layout, first, count, host);
  });
  if (layout.bytes == layout.row_scale_at) return;
  send(1, layout.bytes - layout.row_scale_at, to + layout.row_scale_at,
       [&](int64_t, int64_t, std::byte* host) { pack_row_scales(weight, layout, host); });
}

void WeightStore::reserve(std::span<const std::pair<const Weight*, DType>> weights) {
  std::map<std::string, size_t> missing;
  for (const auto& [weight, dtype] : weights) {
    std::string key = identity(*weight, dtype);
    if (!held_.contains(key)) missing.emplace(std::move(key), aligned(device_bytes(*weight, dtype)));
  }
  size_t total = 0;
  for (const auto& [key, bytes] : missing) total += bytes;
  if (total <= room_) return;
  memory_.push_back(allocate(total, "the weights"));
  free_ = static_cast<std::byte*>(memory_.back().get());
  room_ = total;
}

void* WeightStore::take(size_t bytes, const char* purpose) {
  bytes = aligned(bytes);
  if (bytes > room_) return memory_.emplace_back(allocate(bytes, purpose)).get();
  room_ -= bytes;
  return std::exchange(free_, free_ + bytes);
}

void* WeightStore::upload(const Weight& weight, DType dtype) {
  void*& memory = held_[identity(weight, dtype)];
  if (memory != nullptr) return memory;
  if (staging_.empty()) {
    checked(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    staging_.resize(kStagingCount);
    for (Staging& staging : staging_) {
      staging.memory = allocate_pinned(kStagingBytes);
      checked(cudaEventCreateWithFlags(&staging.done, cudaEventDisableTiming));
    }
  }
  memory = take(device_bytes(weight, dtype), weight.name.c_str());
  auto* to = static_cast<std::byte*>(memory);
  if (dtype == DType::u8) {
    copy_packed(weight, to);
    return memory;
  }
  const size_t row_bytes = size_t(weight_stride(weight.shape.cols)) * size_of(dtype);
  for (const Weight::Part& part : weight.parts) {
    copy_rows(part, weight.shape.cols, dtype, to);
    to += size_t(part.rows) * row_bytes;
  }
  return memory;
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
