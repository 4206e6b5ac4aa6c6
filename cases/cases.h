// The shapes that matter of every op: one source for the tests of its definition and kernels and for
// `bench-op`.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tape/program.h"

namespace flashrt {

// Records one line with operands made of seeded random values; owns the weights' memory, so it outlives the
// program.
class CaseRecorder {
 public:
  CaseRecorder(Program& program, uint64_t seed) : p(program), seed_(seed) {}

  Program& p;

  // Inputs: of the program's type, or as said.
  Tensor normal(Shape shape, float scale = 1, float mean = 0);
  Tensor normal_of(DType dtype, Shape shape, float scale = 1, float mean = 0);
  Tensor integers(Shape shape, int32_t low, int32_t high);  // i32 in [low, high]
  Tensor integers(Shape shape, std::vector<int32_t> values);
  Tensor integer(int32_t value);                                           // i32 [1, 1]
  Tensor bytes(Shape shape);                                               // u8
  Tensor filled(Shape shape, std::function<void(std::span<float>)> fill);  // f32, by the caller's rule
  // Weights: a matrix of the program's type, N(0, scale²); an f32 vector [1, n], N(mean, scale²).
  Tensor matrix(int64_t rows, int64_t cols, float scale = 0.02f);
  Tensor vector(int64_t n, float scale = 0.2f, float mean = 0);

  // Fills an input's memory; the same values whenever it is called.
  struct Input {
    std::string name;
    int id;
    std::function<void(std::span<std::byte>)> fill;
  };
  std::vector<Input> inputs;

 private:
  Tensor input(Shape shape, DType dtype, std::function<void(std::span<std::byte>)> fill);
  Tensor weight(Shape shape, DType dtype, float scale, float mean);
  uint64_t seed_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

struct Case {
  std::string op, name;
  std::function<void(CaseRecorder&)> record;
  // Largest |got − want| in units of the result's format, relative to max(|want|, rms(want)); the unit is 2⁻⁷
  // for bf16, 2⁻¹⁰ for f16, 2⁻²³ for f32.
  double tolerance = 1, tolerance_f32 = 32;
  bool bench = false;  // timed by `bench-op`; too large for the tests
};

// All cases, ordered by op.
std::span<const Case> all_cases();

// Fills with N(mean, scale²), the same for the same seed on every machine.
void fill_normal(std::span<std::byte> memory, DType dtype, uint64_t seed, float scale, float mean);

// The largest error of `got` in the units of Case::tolerance; infinite when a NaN or an infinity stands on
// one side alone.
double error_in_units(const void* got, const float* want, DType dtype, int64_t count);

}  // namespace flashrt
