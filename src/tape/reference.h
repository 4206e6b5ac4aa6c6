// The CPU executor: runs the tape line by line with the ops' definitions. The oracle of every kernel.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "tape/program.h"

namespace flashrt {

// What a definition sees of its line: operands as f32, whatever they are stored as, and f32 results that are
// rounded to the output's type once, when the definition returns.
class RefCall {
 public:
  const Program& program;
  const Line& line;

  bool has(size_t i) const { return line.has(i); }
  Shape in_shape(size_t i) const { return program.info(line.in[i]).shape; }
  Shape out_shape(size_t j) const { return program.info(line.out[j]).shape; }
  DType in_dtype(size_t i) const { return program.info(line.in[i]).dtype; }
  DType out_dtype(size_t j) const { return program.info(line.out[j]).dtype; }
  const float* f32(size_t i) const { return f32_in[i]; }  // null when absent
  const int32_t* i32(size_t i) const { return static_cast<const int32_t*>(raw_in[i]); }
  const void* raw(size_t i) const { return raw_in[i]; }  // as stored
  const Weight* weight(size_t i) const;                  // null when operand i is no stored matrix
  float* out(size_t j) const { return f32_out[j]; }
  void* raw_out(size_t j) const { return raw_outputs[j]; }
  template <class T>
  T attrs() const {
    return line.attrs<T>();
  }

  static constexpr size_t kMaxOperands = 16;
  const float* f32_in[kMaxOperands] = {};
  const void* raw_in[kMaxOperands] = {};
  float* f32_out[kMaxOperands] = {};
  void* raw_outputs[kMaxOperands] = {};
};

class ReferenceExecutor {
 public:
  // Plans memory and prepares every conversion; the program must outlive the executor.
  // `state_of`: a program with the same state tensors, whose memory this one shares; may die first.
  explicit ReferenceExecutor(Program& program, bool poison = false,
                             const ReferenceExecutor* state_of = nullptr);

  // The caller's side of an input or output; valid until the executor dies.
  std::span<std::byte> input(std::string_view name);
  std::span<const std::byte> output(std::string_view name) const;

  void run() noexcept;  // no allocation
  void run_line(size_t index) noexcept;
  void prepare_run() noexcept;  // poisons the arena when asked to
  const void* data(int id) const { return data_[size_t(id)]; }
  void* data(int id) { return data_[size_t(id)]; }
  const Plan& plan() const { return plan_; }
  size_t bytes() const { return arena_.size() + state_->size() + scratch_.size() * sizeof(float); }

 private:
  Program& program_;
  Plan plan_;
  bool poison_;
  std::vector<std::byte> arena_;
  std::shared_ptr<std::vector<std::byte>> state_;
  std::vector<float> scratch_;
  std::vector<void*> data_;                    // by tensor id
  std::vector<std::vector<float>> converted_;  // weights read as f32, by tensor id
};

// Runs one line: `data` holds the address of every tensor, `scratch` at least scratch_floats(line) floats.
void run_reference_line(const Program& program, const Line& line, std::span<void* const> data,
                        float* scratch);
size_t scratch_floats(const Program& program, const Line& line);

// One row of a weight as f32 values.
void read_weight_row(const Weight& weight, int64_t row, float* out);
// One row of a weight as elements of `dtype`, each rounded to the nearest. Where rows are centred, their sum
// must stay 0, or a mean in the input would show: some of the values nearest to a tie are then rounded the
// other way.
void store_weight_row(const Weight& weight, int64_t row, DType dtype, void* out);
// All of a weight as f32 values, row-major (used for vectors and small tables).
std::vector<float> weight_values(const Weight& weight);

}  // namespace flashrt
