// Runs a recorded program with the CPU definitions and reads its tensors as doubles.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "cases/cases.h"
#include "tape/reference.h"

namespace flashrt {

class CpuRun {
 public:
  // Tensors to be read must be inputs, weights, caches or outputs of the program. What nothing wrote is NaN,
  // in caches 0: they are read after the run, so they become state, whose memory nothing else takes over.
  CpuRun(Program& program, const CaseRecorder& recorder)
      : program_(keep_caches(program)), executor_(program, true) {
    for (const auto& input : recorder.inputs) input.fill(executor_.input(input.name));
    executor_.run();
  }

  std::vector<double> operator[](Tensor t) const {
    const TensorInfo &info = program_.info(t.id), &root = program_.info(program_.root(t.id));
    std::vector<double> values(size_t(info.shape.size()));
    if (root.kind == Kind::weight) {
      const std::vector<float> stored = weight_values(*root.weight);
      std::copy_n(stored.begin() + info.row_begin * info.shape.cols, values.size(), values.begin());
      return values;
    }
    if (root.kind == Kind::constant) return {root.values->begin(), root.values->end()};
    for (size_t i = 0; i < values.size(); ++i) values[i] = at(executor_.data(t.id), info.dtype, i);
    return values;
  }

 private:
  static Program& keep_caches(Program& program) {
    for (TensorInfo& t : program.tensors) {
      if (t.kind == Kind::buffer) t.kind = Kind::state;
    }
    return program;
  }
  static double at(const void* data, DType dtype, size_t i) {
    if (dtype == DType::i32) return static_cast<const int32_t*>(data)[i];
    if (dtype == DType::u8) return static_cast<const uint8_t*>(data)[i];
    return load_float(data, dtype, i);
  }

  Program& program_;
  ReferenceExecutor executor_;
};

// got = want(row, column) over a matrix of `cols` columns, within `tolerance` of max(|want|, 1).
inline void expect_matrix(const std::vector<double>& got, int64_t cols, double tolerance,
                          const std::function<double(int64_t, int64_t)>& want) {
  for (int64_t i = 0; i < int64_t(got.size()); ++i) {
    const double expected = want(i / cols, i % cols);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got[size_t(i)])) << "row " << i / cols << " column " << i % cols;
      continue;
    }
    EXPECT_NEAR(got[size_t(i)], expected, tolerance * std::max(std::abs(expected), 1.0))
        << "row " << i / cols << " column " << i % cols;
  }
}

// Every definition is tested in f32 and in bf16, whose results are rounded once.
struct Precision {
  DType dtype;
  double tolerance;
};
constexpr Precision kPrecisions[] = {{DType::f32, 4e-6}, {DType::bf16, 0x1p-8 + 1e-6}};

}  // namespace flashrt
