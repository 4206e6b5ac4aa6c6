// Implementations of unpack.
#include "ops/unpack.h"

#include "base/error.h"
#include "cuda/operands.h"
#include "cuda/packed_layout.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_any(const Problem& p) {
  const TensorInfo& w = p.program.info(p.line.in[0]);
  return w.kind == Kind::weight && w.dtype == DType::u8 && w.shape.rows % 2 == 0 && is_element(p.out_type(0));
}

void launch_any(const Problem& p, std::vector<Launch>& out) {
  static constexpr const char* kKernels[] = {"unpack_fp8", "unpack_int8", "unpack_int4", "unpack_int4_fine",
                                             "unpack_nvfp4"};
  const Weight& weight = *p.program.info(p.line.in[0]).weight;
  const PackedLayout layout = packed_layout(weight);
  const UnpackParams params{
      .w = packed_matrix(weight, p.in_data<const void>(0)), .y = target(p, 0), .tiles = int(layout.tiles)};
  // The dense kernels fetch weights before they wait for their predecessor.
  out.push_back(
      Launch::of(kKernels[int(layout.kind)], grid_of(layout.tiles * layout.steps * 32), 256, params));
  out.back().must_end = true;
}

constexpr Implementation kTable[] = {{"any", fits_any, launch_any}};

}  // namespace

std::span<const Implementation> unpack_table() { return kTable; }

}  // namespace flashrt::cuda
