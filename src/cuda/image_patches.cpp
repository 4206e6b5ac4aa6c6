// Implementations of the image patches.
#include "ops/image_patches.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) {
  return (p.in_type(0) == DType::u8 || p.in_type(0) == DType::f32) && is_element(p.out_type(0)) &&
         p.out(0).cols % 8 == 0;
}

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const auto attrs = p.line.attrs<PatchAttrs>();
  const Shape shape = p.out(0);
  const PatchParams params{
      .image = p.in_data<const void>(0),
      .y = target(p, 0),
      .rows = int(shape.rows),
      .cols = int(shape.cols),
      .size = attrs.size,
      .patch = attrs.patch,
      .bytes = p.in_type(0) == DType::u8,
  };
  out.push_back(Launch::of("image_patches_rows", grid_of_packs(shape.rows, shape.cols), 256, params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> image_patches_table() { return kTable; }

}  // namespace flashrt::cuda
