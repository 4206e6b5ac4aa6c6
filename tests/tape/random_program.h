// Random programs over the real ops: layers, views, caches and concatenations in any order.
#pragma once

#include <random>

#include "cases/cases.h"
#include "ops/activation.h"
#include "ops/append.h"
#include "ops/concat.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/residual.h"
#include "ops/split.h"

namespace flashrt {

// Records `steps` lines or so on matrices of kRows rows; three outputs depend on some of them.
class RandomProgram {
 public:
  RandomProgram(DType compute, uint64_t seed, int steps)
      : program(compute), recorder(program, seed), dice_(seed) {
    for (int64_t width : {kWidth, 2 * kWidth}) pool_.push_back(recorder.normal({kRows, width}));
    for (int i = 0; i < steps; ++i) add();
    for (const char* name : {"first", "second", "third"}) program.output(name, finished());
  }

  Program program;
  CaseRecorder recorder;
  static constexpr int64_t kRows = 4, kWidth = 8;

 private:
  int roll(int sides) { return int(dice_() % uint64_t(sides)); }
  Tensor any() {  // most often a recent one, as in a network
    const int size = int(pool_.size()), recent = roll(4) == 0 ? size : std::min(size, 3);
    return pool_[size_t(size - 1 - roll(recent))];
  }
  Tensor any(int64_t rows, int64_t cols) {
    for (int i = 0; i < 50; ++i) {
      if (const Tensor t = any(); t.shape() == Shape{rows, cols}) return t;
    }
    return recorder.normal({rows, cols});
  }
  // An output must be written by a line of its own.
  Tensor finished() {
    const Tensor x = any();
    return residual(x, x);
  }

  void add() {
    const Tensor x = any();
    switch (roll(9)) {
      case 0: pool_.push_back(rms_norm(x, recorder.vector(x.cols()))); break;
      case 1: pool_.push_back(linear(x, recorder.matrix((1 + roll(2)) * kWidth, x.cols(), 0.2f))); break;
      case 2:
        pool_.push_back(linear(x, recorder.matrix(x.cols(), x.cols(), 0.2f), recorder.vector(x.cols())));
        break;
      case 3: pool_.push_back(residual(x, any(x.rows(), x.cols()))); break;
      case 4: pool_.push_back(x.cols() == 2 * kWidth ? geglu(x) : silu(x)); break;
      case 5: {
        if (x.cols() != 2 * kWidth) return;
        const int64_t widths[] = {kWidth, kWidth};
        for (Tensor part : split(x, widths)) pool_.push_back(part);
        break;
      }
      case 6: {  // stacked, and views of the stack
        const Tensor both = concat({x, any(x.rows(), x.cols())});
        pool_.push_back(program.rows(both, roll(int(both.rows() - x.rows()) + 1), x.rows()));
        break;
      }
      case 7: {  // a cache, filled before it is read
        Tensor cache = program.buffer("cache", {x.rows(), x.cols()}, program.compute());
        cache = append(cache, x, {});
        pool_.push_back(residual(cache, any(x.rows(), x.cols())));
        break;
      }
      case 8: pool_.push_back(program.reshape(program.reshape(x, {1, x.shape().size()}), x.shape())); break;
    }
  }

  std::mt19937_64 dice_;
  std::vector<Tensor> pool_;
};

}  // namespace flashrt
