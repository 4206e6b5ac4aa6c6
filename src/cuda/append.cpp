// Implementations of the append.
#include "ops/append.h"

#include "cuda/copy.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_copy(const Problem& p) { return is_element(p.in_type(0)) && is_element(p.out_type(0)); }

void launch_copy(const Problem& p, std::vector<Launch>& out) {
  const Shape shape = p.in(0);
  out.push_back(copy_launch({
      .x = source(p, 0),
      .y = target(p, 0),
      .position = p.in_data<const int>(1),
      .rows = int(shape.rows),
      .cols = int(shape.cols),
      .capacity = int(p.out(0).rows),
      .packed = packed(shape.cols, p.in_stride(0)),
  }));
}

constexpr Implementation kTable[] = {{"copy", fits_copy, launch_copy}};

}  // namespace

std::span<const Implementation> append_table() { return kTable; }

}  // namespace flashrt::cuda
