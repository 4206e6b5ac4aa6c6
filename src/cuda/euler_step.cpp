// Implementations of the Euler step.
#include "ops/euler_step.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) {
  return p.in_type(0) == DType::f32 && is_element(p.in_type(1)) && p.out_type(0) == DType::f32 &&
         p.in_stride(0) == p.in(0).cols && p.in_stride(1) == p.in(1).cols;
}

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const EulerParams params{
      .x = p.in_data<const float>(0),
      .v = source(p, 1),
      .y = p.out_data<float>(0),
      .size = p.out(0).size(),
      .dt = p.line.attrs<float>(),
  };
  out.push_back(Launch::of("euler_step_rows", grid_of(params.size), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> euler_step_table() { return kTable; }

}  // namespace flashrt::cuda
