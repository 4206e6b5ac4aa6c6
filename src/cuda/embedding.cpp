// Implementations of the embedding lookup.
#include "ops/embedding.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) { return elements_only(p, 1); }

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const Shape shape = p.out(0);
  const EmbeddingParams params{
      .ids = p.in_data<const int>(0),
      .table = source(p, 1),
      .y = target(p, 0),
      .rows = int(shape.rows),
      .cols = int(shape.cols),
      .vocabulary = int(p.in(1).rows),
      .scale = p.line.attrs<float>(),
      .packed = packed(shape.cols, p.in_stride(1)),
  };
  out.push_back(Launch::of("embedding_rows", grid_of_packs(shape.rows, shape.cols), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> embedding_table() { return kTable; }

}  // namespace flashrt::cuda
