// Binding: a model names its tensors and their shapes, the source hands out views of the checkpoint.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "tape/program.h"
#include "tape/reference.h"

namespace flashrt {

// The stored matrix of a canonical name: rows = the first dimension, columns = all others; a vector is [1,
// n]. Throws Error(input) when there is none.
using WeightSource = std::function<Weight(const std::string& name)>;

class WeightBinder {
 public:
  WeightBinder(Program& program, WeightSource source, std::string prefix = "")
      : program_(program), source_(std::move(source)), prefix_(std::move(prefix)) {}

  // The same source below a prefix: w.at("layers.3.").
  WeightBinder at(const std::string& prefix) const { return {program_, source_, prefix_ + prefix}; }

  // A matrix [rows, cols]. "{q,k,v}_proj.weight" stacks the three along rows.
  Tensor matrix(const std::string& name, Shape shape) const { return program_.weight(stacked(name, shape)); }
  // Columns [begin, begin + count) of a matrix of `shape`.
  Tensor columns(const std::string& name, Shape shape, int64_t begin, int64_t count) const;
  // A vector as [1, n]; braces stack here too.
  Tensor vector(const std::string& name, int64_t n) const;

 private:
  Weight stacked(const std::string& pattern, Shape shape) const;

  Program& program_;
  WeightSource source_;
  std::string prefix_;
};

}  // namespace flashrt
