// Implementations of the rotation, alone and fused with the split and the append.
#include "ops/rope.h"

#include "cuda/kernels/common/row_params.h"
#include "cuda/operands.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

// The table is read as pairs in place: f32 rows without padding.
bool fits_rows(const Problem& p) {
  return is_element(p.in_type(0)) && p.in_type(1) == DType::f32 && p.in_stride(1) == p.in(1).cols &&
         std::ranges::all_of(p.line.out, [&](int id) { return is_element(p.program.info(id).dtype); });
}

RopeParams common_params(const Problem& p) {
  return {
      .x = source(p, 0),
      .y = {target(p, 0), target(p, 0), target(p, 0)},
      .rows = int(p.in(0).rows),
      .head_dim = p.line.attrs<RopeAttrs>().head_dim,
      .positions = int(p.in(1).rows),
      .table = p.in_data<const float>(1),
      .position = p.in_data<const int>(2),
  };
}

Launch launch_of(const RopeParams& params) {
  const int64_t heads = params.heads[0] + params.heads[1] + params.heads[2];
  return Launch::of("rope_rows", grid_of(params.rows * heads * (params.head_dim / 2)), 256, params);
}

void launch_rope(const Problem& p, std::vector<Launch>& out) {
  RopeParams params = common_params(p);
  params.heads[0] = params.rotated_heads = int(p.in(0).cols / params.head_dim);
  out.push_back(launch_of(params));
}

void launch_rope_append(const Problem& p, std::vector<Launch>& out) {
  const auto attrs = p.line.attrs<RopeAttrs>();
  RopeParams params = common_params(p);
  params.y[1] = target(p, 1), params.y[2] = target(p, 2);
  params.heads[0] = attrs.heads, params.heads[1] = params.heads[2] = attrs.kv_heads;
  params.rotated_heads = attrs.heads + attrs.kv_heads;
  params.capacity = int(std::min(p.out(1).rows, p.out(2).rows));
  out.push_back(launch_of(params));
}

constexpr Implementation kRope[] = {{"rows", fits_rows, launch_rope}};
constexpr Implementation kRopeAppend[] = {{"rows", fits_rows, launch_rope_append}};

}  // namespace

std::span<const Implementation> rope_table() { return kRope; }
std::span<const Implementation> rope_append_table() { return kRopeAppend; }

}  // namespace flashrt::cuda
