// Seeded operands of cases, and the error measure.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/threads.h"
#include "cases/cases.h"

namespace flashrt {

namespace {

// splitmix64: one well-mixed 64-bit word per counter (Steele et al. 2014).
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// 2^14 standard normals by Box and Muller from a fixed stream: drawing from them is a table lookup.
const std::array<float, 1 << 14>& normals() {
  static const auto table = [] {
    std::array<float, 1 << 14> values{};
    for (size_t i = 0; i < values.size(); i += 2) {
      const double u = (double(mix(i) >> 11) + 1) * 0x1p-53, v = double(mix(i + 1) >> 11) * 0x1p-53;
      const double radius = std::sqrt(-2 * std::log(u));
      values[i] = float(radius * std::cos(6.283185307179586 * v));
      values[i + 1] = float(radius * std::sin(6.283185307179586 * v));
    }
    return values;
  }();
  return table;
}

}  // namespace

void fill_normal(std::span<std::byte> memory, DType dtype, uint64_t seed, float scale, float mean) {
  const auto& table = normals();
  const int64_t count = int64_t(memory.size() / size_of(dtype));
  parallel_for(count, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      store_float(memory.data(), dtype, size_t(i),
                  mean + scale * table[mix(seed + uint64_t(i)) % table.size()]);
    }
  });
}

Tensor CaseRecorder::input(Shape shape, DType dtype, std::function<void(std::span<std::byte>)> fill) {
  const std::string name = fmt::format("in{}", inputs.size());
  const Tensor t = p.input(name, shape, dtype);
  inputs.push_back({name, t.id, std::move(fill)});
  return t;
}

Tensor CaseRecorder::normal_of(DType dtype, Shape shape, float scale, float mean) {
  const uint64_t seed = mix(seed_++);
  return input(shape, dtype, [=](std::span<std::byte> to) { fill_normal(to, dtype, seed, scale, mean); });
}

Tensor CaseRecorder::normal(Shape shape, float scale, float mean) {
  return normal_of(p.compute(), shape, scale, mean);
}

Tensor CaseRecorder::filled(Shape shape, std::function<void(std::span<float>)> fill) {
  return input(shape, DType::f32, [=](std::span<std::byte> to) {
    std::vector<float> values(to.size() / sizeof(float));
    fill(values);
    std::memcpy(to.data(), values.data(), to.size());
  });
}

Tensor CaseRecorder::integers(Shape shape, int32_t low, int32_t high) {
  const uint64_t seed = mix(seed_++);
  return input(shape, DType::i32, [=](std::span<std::byte> to) {
    for (size_t i = 0; i < to.size() / 4; ++i) {
      const int32_t v = low + int32_t(mix(seed + i) % uint64_t(int64_t(high) - low + 1));
      std::memcpy(to.data() + 4 * i, &v, 4);
    }
  });
}

Tensor CaseRecorder::integers(Shape shape, std::vector<int32_t> values) {
  return input(shape, DType::i32, [values = std::move(values)](std::span<std::byte> to) {
    std::memcpy(to.data(), values.data(), to.size());
  });
}

Tensor CaseRecorder::integer(int32_t value) { return integers({1, 1}, value, value); }

Tensor CaseRecorder::bytes(Shape shape) {
  const uint64_t seed = mix(seed_++);
  return input(shape, DType::u8, [=](std::span<std::byte> to) {
    for (size_t i = 0; i < to.size(); ++i) to[i] = std::byte(mix(seed + i));
  });
}

Tensor CaseRecorder::weight(Shape shape, DType dtype, float scale, float mean) {
  const size_t bytes = size_t(shape.size()) * size_of(dtype);
  memory_.push_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
  fill_normal({memory_.back().get(), bytes}, dtype, mix(seed_++), scale, mean);
  return p.weight({.name = fmt::format("weight{}", memory_.size()),
                   .shape = shape,
                   .parts = {{memory_.back().get(), dtype, shape.rows, shape.cols}}});
}

Tensor CaseRecorder::matrix(int64_t rows, int64_t cols, float scale) {
  return weight({rows, cols}, p.compute(), scale, 0);
}

Tensor CaseRecorder::vector(int64_t n, float scale, float mean) {
  return weight({1, n}, DType::f32, scale, mean);
}

double error_in_units(const void* got, const float* want, DType dtype, int64_t count) {
  const double unit = dtype == DType::bf16 ? 0x1p-7 : dtype == DType::f16 ? 0x1p-10 : 0x1p-23;
  double squares = 0;
  for (int64_t i = 0; i < count; ++i)
    squares += std::isfinite(want[i]) ? double(want[i]) * double(want[i]) : 0;
  const double rms = std::sqrt(squares / double(std::max<int64_t>(count, 1)));
  double worst = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float value = load_float(got, dtype, size_t(i));
    if (std::isnan(value) && std::isnan(want[i])) continue;
    if (value == want[i]) continue;
    const double error =
        std::abs(double(value) - double(want[i])) / (unit * std::max(std::abs(double(want[i])), rms));
    if (!(error < std::numeric_limits<double>::infinity())) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, error);
  }
  return worst;
}

}  // namespace flashrt
