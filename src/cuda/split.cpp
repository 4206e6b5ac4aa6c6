// Implementations of the split: one copy per part.
#include "ops/split.h"

#include "cuda/copy.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_copy(const Problem& p) { return elements_only(p); }

void launch_copy(const Problem& p, std::vector<Launch>& out) {
  int64_t col = 0;
  for (size_t j = 0; j < p.line.out.size(); ++j) {
    const Shape shape = p.out(j);
    out.push_back(copy_launch({
        .x = source(p, 0, col),
        .y = target(p, j),
        .rows = int(shape.rows),
        .cols = int(shape.cols),
        .capacity = int(shape.rows),
        .packed = packed(col, shape.cols, p.in_stride(0)),
    }));
    col += shape.cols;
  }
}

constexpr Implementation kTable[] = {{"copy", fits_copy, launch_copy}};

}  // namespace

std::span<const Implementation> split_table() { return kTable; }

}  // namespace flashrt::cuda
