// Implementations of the time embedding.
#include "ops/time_embedding.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) { return p.in_type(0) == DType::f32 && is_element(p.out_type(0)); }

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const auto attrs = p.line.attrs<TimeEmbeddingAttrs>();
  const Shape shape = p.out(0);
  const TimeEmbeddingParams params{
      .t = p.in_data<const float>(0),
      .y = target(p, 0),
      .rows = int(shape.rows),
      .half = int(shape.cols / 2),
      .min_period = attrs.min_period,
      .max_period = attrs.max_period,
      .in_double = attrs.in_double != 0,
  };
  out.push_back(Launch::of("time_embedding_rows", grid_of(shape.rows * (shape.cols / 2)), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> time_embedding_table() { return kTable; }

}  // namespace flashrt::cuda
