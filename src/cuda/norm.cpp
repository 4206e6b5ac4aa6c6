// Implementations of the row normalisations.
#include "ops/norm.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

bool fits_rows(const Problem& p) {
  return elements_only(p) && p.line.attrs<NormAttrs>().kind != NormKind::none;
}

void launch_rows(const Problem& p, std::vector<Launch>& out) {
  const auto attrs = p.line.attrs<NormAttrs>();
  const Shape shape = p.in(0);
  const NormParams params{
      .x = source(p, 0),
      .scale = source(p, 1),
      .shift = source(p, 2),
      .y = target(p, 0),
      .cols = int(shape.cols),
      .rule = attrs.kind == NormKind::layer ? NormRule::layer : NormRule::rms,
      .eps = attrs.eps,
      .packed = packed(shape.cols, p.in_stride(0)),
  };
  const unsigned packs = unsigned((shape.cols + 7) / 8);
  out.push_back(
      Launch::of("norm_rows", unsigned(shape.rows), std::min(1024u, (packs + 31) / 32 * 32), params));
}

constexpr Implementation kTable[] = {{"rows", fits_rows, launch_rows}};

}  // namespace

std::span<const Implementation> norm_table() { return kTable; }

}  // namespace flashrt::cuda
