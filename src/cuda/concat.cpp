// Implementations of the concatenation: one copy per part.
#include "ops/concat.h"

#include "cuda/copy.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_copy(const Problem& p) { return elements_only(p); }

void launch_copy(const Problem& p, std::vector<Launch>& out) {
  int64_t row = 0;
  for (size_t i = 0; i < p.line.in.size(); ++i) {
    const Shape shape = p.in(i);
    Target y = target(p, 0);
    y.data = p.out_data<std::byte>(0) + row * shape.cols * int64_t(size_of(p.out_type(0)));
    out.push_back(copy_launch({
        .x = source(p, i),
        .y = y,
        .rows = int(shape.rows),
        .cols = int(shape.cols),
        .capacity = int(shape.rows),
        .packed = packed(shape.cols, p.in_stride(i)),
    }));
    row += shape.rows;
  }
}

constexpr Implementation kTable[] = {{"copy", fits_copy, launch_copy}};

}  // namespace

std::span<const Implementation> concat_table() { return kTable; }

}  // namespace flashrt::cuda
