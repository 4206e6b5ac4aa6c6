// Packing a language model's checkpoint on disk.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/lm_checkpoint.h"

namespace flashrt {

struct QuantizeReport {
  struct Matrix {
    std::string name;
    int64_t rows = 0, cols = 0;
    double relative_error = 0;  // |ŵ − w| / |w|, Frobenius
    size_t bytes = 0;           // codes and scales
  };
  std::vector<Matrix> matrices;
  double relative_error = 0;  // of all of them together
  size_t kept = 0;            // tensors copied as they are
  size_t bytes_before = 0, bytes_after = 0;
};

// Writes `checkpoint` to the directory `out`, new or empty, with the matrices of attention and MLP in
// `format`, in the layout of compressed-tensors, and beside them every other file of the checkpoint that is
// no weight. `progress` is told of bytes read. Throws Error(input) where the checkpoint is packed already.
QuantizeReport quantize_checkpoint(const LmCheckpoint& checkpoint, quant::Format format,
                                   const std::string& out,
                                   const std::function<void(size_t done, size_t total)>& progress = {});

}  // namespace flashrt
