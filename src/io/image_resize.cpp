// Resampling with Pillow's two 8-bit passes and torch's float interpolation; loops vectorise over channels
// and rows.
#include "io/image_resize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"

// One binary, the widest vectors of the machine: the loader picks the clone.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FLASHRT_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define FLASHRT_WIDE
#endif

namespace flashrt {

namespace {

constexpr int kPrecisionBits = 22;  // Pillow's weights
constexpr int kRound = 1 << (kPrecisionBits - 1);
constexpr int kMaxSide = 8192;

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double cubic(double x) {  // Keys, a = −0.5
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

uint8_t clip(int32_t v) { return uint8_t(std::clamp(v >> kPrecisionBits, 0, 255)); }

const std::array<float, 256> kModelSpace = [] {
  std::array<float, 256> table{};
  for (int v = 0; v < 256; ++v) table[size_t(v)] = float(v) / 255.0f * 2.0f - 1.0f;
  return table;
}();

using Ints4 = int32_t __attribute__((vector_size(16)));

FLASHRT_WIDE void widen(const uint8_t* in, size_t count, int32_t* out) noexcept {
  for (size_t i = 0; i < count; ++i) out[i] = in[i];
}

// One row of the horizontal pass. Lanes 0…2 are the channels; lane 3 reads and writes one element further,
// which the next pixel overwrites.
FLASHRT_WIDE void resample_row(const int32_t* in, const int32_t* spans, const int32_t* weights, int taps,
                               int count, int32_t* sums) noexcept {
  for (int x = 0; x < count; ++x) {
    const int32_t* p = in + size_t(spans[2 * x]) * 3;
    const int32_t* w = weights + size_t(x) * size_t(taps);
    Ints4 sum = Ints4{} + kRound;
    for (int k = 0; k < spans[2 * x + 1]; ++k) {
      Ints4 pixel;
      std::memcpy(&pixel, p + 3 * k, sizeof pixel);
      sum += pixel * w[k];
    }
    std::memcpy(sums + 3 * x, &sum, sizeof sum);
  }
}

FLASHRT_WIDE void narrow(const int32_t* sums, size_t count, uint8_t* out) noexcept {
  for (size_t i = 0; i < count; ++i) out[i] = clip(sums[i]);
}

// One output row of the vertical pass: [bytes] of `size` rows, `stride` apart.
FLASHRT_WIDE void resample_columns(const uint8_t* rows, size_t stride, const int32_t* w, int size,
                                   size_t bytes, uint8_t* out) noexcept {
  constexpr size_t kBlock = 64;
  for (size_t x = 0; x < bytes; x += kBlock) {
    const size_t n = std::min(kBlock, bytes - x);
    int32_t sum[kBlock];
    std::fill_n(sum, kBlock, kRound);
    for (int k = 0; k < size; ++k) {
      const uint8_t* row = rows + size_t(k) * stride + x;
      const int32_t weight = w[k];
      if (n == kBlock) {
        for (size_t i = 0; i < kBlock; ++i) sum[i] += int32_t(row[i]) * weight;
      } else {
        for (size_t i = 0; i < n; ++i) sum[i] += int32_t(row[i]) * weight;
      }
    }
    for (size_t i = 0; i < n; ++i) out[x + i] = clip(sum[i]);
  }
}

}  // namespace

ResizePlan::ResizePlan(int src_width, int src_height, int width, int height, ResizeRule rule)
    : src_width_(src_width), src_height_(src_height), width_(width), height_(height), rule_(rule) {
  for (const int side : {src_width, src_height, width, height}) {
    if (side < 1 || side > kMaxSide) {
      fail("cannot resize {} x {} to {} x {}: expected sides from 1 to {}", src_width, src_height, width,
           height, kMaxSide);
    }
  }
  // Truncations as the trainers', in double.
  const double ratio = std::max(double(src_width) / width, double(src_height) / height);
  inner_width_ = int(src_width / ratio);
  inner_height_ = int(src_height / ratio);
  if (inner_width_ < 1 || inner_height_ < 1) {
    fail("cannot resize {} x {} to {} x {}: a side would be empty", src_width, src_height, width, height);
  }
  left_ = (width - inner_width_) / 2;
  top_ = (height - inner_height_) / 2;
  const auto area = [](int w, int h) { return size_t(w) * size_t(h) * 3; };
  canvas_.assign(area(width, height), 0);
  if (rule == ResizeRule::torch_bilinear) {
    lerp_x_ = lerp_of(src_width, inner_width_);
    lerp_y_ = lerp_of(src_height, inner_height_);
    planes_.assign(area(width, height), 0);
  } else {
    x_ = axis_of(src_width, inner_width_, rule);
    y_ = axis_of(src_height, inner_height_, rule);
    rows_.assign(area(inner_width_, src_height), 0);
    wide_row_.assign(area(src_width, 1) + 1, 0);
    sums_.assign(area(inner_width_, 1) + 1, 0);
  }
}

// Pillow's precompute_coeffs: the filter is stretched over the source pixels of one output pixel, summed to 1
// and rounded half away from zero to 22 bits.
ResizePlan::Axis ResizePlan::axis_of(int src, int dst, ResizeRule rule) {
  const auto filter = rule == ResizeRule::bicubic ? cubic : triangle;
  const double scale = double(src) / dst, stretch = std::max(scale, 1.0);
  const double support = (rule == ResizeRule::bicubic ? 2.0 : 1.0) * stretch;
  Axis axis;
  axis.taps = int(std::ceil(support)) * 2 + 1;
  std::vector<double> w(size_t(axis.taps));
  for (int i = 0; i < dst; ++i) {
    const double center = (i + 0.5) * scale;
    const int begin = std::max(int(center - support + 0.5), 0);
    const int count = std::min(int(center + support + 0.5), src) - begin;
    double total = 0;
    for (int k = 0; k < count; ++k)
      total += w[size_t(k)] = filter((k + begin - center + 0.5) * (1.0 / stretch));
    for (int k = 0; k < axis.taps; ++k) {
      const double v =
          k < count ? (total != 0 ? w[size_t(k)] / total : w[size_t(k)]) * (1 << kPrecisionBits) : 0;
      axis.weights.push_back(int32_t(v < 0 ? v - 0.5 : v + 0.5));
    }
    axis.spans.push_back({begin, count});
  }
  return axis;
}

// torch's area_pixel_compute_source_index in float.
std::vector<ResizePlan::Lerp> ResizePlan::lerp_of(int src, int dst) {
  const float scale = float(src) / float(dst);
  std::vector<Lerp> result;
  for (int i = 0; i < dst; ++i) {
    const float at = std::max(scale * (float(i) + 0.5f) - 0.5f, 0.0f);
    const int a = std::min(int(at), src - 1);
    result.push_back({a, std::min(a + 1, src - 1), std::clamp(at - float(a), 0.0f, 1.0f)});
  }
  return result;
}

void ResizePlan::horizontal(const uint8_t* src) noexcept {
  const size_t in = size_t(src_width_) * 3, out = size_t(inner_width_) * 3;
  for (size_t y = 0; y < size_t(src_height_); ++y) {
    widen(src + y * in, in, wide_row_.data());
    resample_row(wide_row_.data(), &x_.spans[0].begin, x_.weights.data(), x_.taps, inner_width_,
                 sums_.data());
    narrow(sums_.data(), out, rows_.data() + y * out);
  }
}

// Writes the picture's rectangle of the canvas; its frame is left alone.
void ResizePlan::resample(const uint8_t* src, uint8_t* dst) noexcept {
  const size_t stride = size_t(inner_width_) * 3;
  const uint8_t* rows = src;
  if (inner_width_ != src_width_) {
    horizontal(src);
    rows = rows_.data();
  }
  for (int y = 0; y < inner_height_; ++y) {
    uint8_t* out = dst + (size_t(top_ + y) * size_t(width_) + size_t(left_)) * 3;
    if (inner_height_ == src_height_) {
      std::memcpy(out, rows + size_t(y) * stride, stride);
    } else {
      const Axis::Span span = y_.spans[size_t(y)];
      resample_columns(rows + size_t(span.begin) * stride, stride,
                       y_.weights.data() + size_t(y) * size_t(y_.taps), span.count, stride, out);
    }
  }
}

// Planes [3, height, width] in 0…1; the frame stays 0.
void ResizePlan::interpolate(const uint8_t* src, float* dst) noexcept {
  const size_t in = size_t(src_width_) * 3, plane = size_t(width_) * size_t(height_);
  const bool same = inner_width_ == src_width_ && inner_height_ == src_height_;
  for (int y = 0; y < inner_height_; ++y) {
    const Lerp ly = lerp_y_[size_t(y)];
    const uint8_t *top = src + size_t(ly.a) * in, *bottom = src + size_t(ly.b) * in;
    float* out = dst + size_t(top_ + y) * size_t(width_) + size_t(left_);
    for (int x = 0; x < inner_width_; ++x) {
      const Lerp lx = lerp_x_[size_t(x)];
      for (size_t c = 0; c < 3; ++c) {
        const size_t a = size_t(lx.a) * 3 + c, b = size_t(lx.b) * 3 + c;
        const auto unit = [](uint8_t v) { return float(v) / 255.0f; };
        const float up = unit(top[a]) * (1 - lx.t) + unit(top[b]) * lx.t;
        const float down = unit(bottom[a]) * (1 - lx.t) + unit(bottom[b]) * lx.t;
        out[c * plane + size_t(x)] =
            same ? unit(top[a]) : std::clamp(up * (1 - ly.t) + down * ly.t, 0.0f, 1.0f);
      }
    }
  }
}

void ResizePlan::run(const uint8_t* src, uint8_t* dst) noexcept {
  const size_t plane = size_t(width_) * size_t(height_);
  if (rule_ != ResizeRule::torch_bilinear) {
    std::memset(dst, 0, plane * 3);
    resample(src, dst);
    return;
  }
  interpolate(src, planes_.data());
  for (size_t i = 0; i < plane; ++i) {
    for (size_t c = 0; c < 3; ++c) dst[i * 3 + c] = uint8_t(std::nearbyint(planes_[c * plane + i] * 255.0f));
  }
}

void ResizePlan::run(const uint8_t* src, float* dst) noexcept {
  const size_t plane = size_t(width_) * size_t(height_);
  if (rule_ == ResizeRule::torch_bilinear) {
    interpolate(src, planes_.data());
    for (size_t i = 0; i < plane * 3; ++i) dst[i] = planes_[i] * 2.0f - 1.0f;
    return;
  }
  resample(src, canvas_.data());
  for (size_t i = 0; i < plane; ++i) {
    for (size_t c = 0; c < 3; ++c) dst[c * plane + i] = kModelSpace[canvas_[i * 3 + c]];
  }
}

void rotate_half_turn(uint8_t* pixels, int width, int height) noexcept {
  const size_t count = size_t(width) * size_t(height);
  for (size_t i = 0; i < count / 2; ++i)
    std::swap_ranges(pixels + 3 * i, pixels + 3 * i + 3, pixels + 3 * (count - 1 - i));
}

}  // namespace flashrt
