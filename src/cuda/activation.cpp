// Implementations of the activations.
#include "ops/activation.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/point_function.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) { return elements_only(p); }

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const auto kind = p.line.attrs<Activation>();
  const Shape shape = p.out(0);
  const ActivationParams params{
      .x = source(p, 0),
      .y = target(p, 0),
      .rows = int(shape.rows),
      .cols = int(shape.cols),
      .function = point_function_of(kind),
      .pair = is_pair(kind),
      .packed = packed(shape.cols, p.in_stride(0)),
  };
  out.push_back(Launch::of("activation_rows", grid_of_packs(shape.rows, shape.cols), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> activation_table() { return kTable; }

}  // namespace flashrt::cuda
