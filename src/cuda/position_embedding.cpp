// Implementations of the position embedding.
#include "ops/position_embedding.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) {
  return is_element(p.in_type(0)) && is_element(p.in_type(1)) && is_element(p.out_type(0));
}

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const Shape shape = p.out(0);
  const PositionEmbeddingParams params{
      .x = source(p, 0),
      .table = source(p, 1),
      .y = target(p, 0),
      .position = p.in_data<const int>(2),
      .rows = int(shape.rows),
      .cols = int(shape.cols),
      .positions = int(p.in(1).rows),
      .packed = packed(shape.cols, p.in_stride(0), p.in_stride(1)),
  };
  out.push_back(Launch::of("position_embedding_rows", grid_of_packs(shape.rows, shape.cols), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> position_embedding_table() { return kTable; }

}  // namespace flashrt::cuda
