// Implementations of the residual addition.
#include "ops/residual.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) { return elements_only(p); }

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const Shape shape = p.out(0);
  const ResidualParams params{
      .x = source(p, 0),
      .y = source(p, 1),
      .gate = source(p, 2),
      .out = target(p, 0),
      .rows = int(shape.rows),
      .cols = int(shape.cols),
      .period = int(p.in(0).rows),
      .packed = packed(shape.cols, p.in_stride(0), p.in_stride(1)),
  };
  out.push_back(Launch::of("residual_rows", grid_of_packs(shape.rows, shape.cols), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> residual_table() { return kTable; }

}  // namespace flashrt::cuda
