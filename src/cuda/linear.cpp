// Implementations of the linear layer.
#include "ops/linear.h"

#include "cuda/kernels/common/tile_params.h"
#include "cuda/linear_gemv.h"
#include "cuda/linear_packed.h"
#include "cuda/linear_tensor_core.h"
#include "cuda/operands.h"
#include "cuda/point_function.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

// The portable kernels fuse everything behind the product but the rotation, and nothing before it.
bool fits_portable(const Problem& p) {
  const auto attrs = p.line.attrs<LinearAttrs>();
  const bool bare = attrs.norm.kind == NormKind::none && attrs.rope.head_dim == 0 && p.line.out.size() == 1;
  return bare && elements_only(p);
}

LinearTileParams tile_params(const Problem& p) {
  const auto attrs = p.line.attrs<LinearAttrs>();
  const Kind kind = p.program.info(p.program.root(p.line.in[kW])).kind;
  return {
      .x = source(p, kX),
      .w = source(p, kW),
      .bias = source(p, kBias),
      .residual = source(p, kResidual),
      .gate = source(p, kGate),
      .y = target(p, 0),
      .m = int(p.in(kX).rows),
      .n = int(p.in(kW).rows),
      .k = int(p.in(kW).cols),
      .period = p.has(kResidual) ? int(p.in(kResidual).rows) : 1,
      .function = point_function_of(attrs.activation),
      .pair = is_pair(attrs.activation),
      .packed = packed(p.in_stride(kX), p.in_stride(kW)),
      .known_weights = kind == Kind::weight || kind == Kind::constant,
  };
}

unsigned tiles(int64_t count, int64_t tile) { return unsigned((count + tile - 1) / tile); }

// Few rows: every weight is read once per 16 rows.
bool fits_gemv(const Problem& p) { return fits_portable(p) && p.in(kX).rows <= 16; }

void launch_gemv(const Problem& p, std::vector<Launch>& out) {
  const LinearTileParams params = tile_params(p);
  constexpr int kWarps = 4;
  const int rows = params.m == 1 ? 1 : params.m <= 4 ? 4 : 16;
  const char* kernel = rows == 1 ? "linear_gemv_1" : rows == 4 ? "linear_gemv_4" : "linear_gemv_16";
  out.push_back(Launch::of(kernel, dim3(tiles((params.n + 1) / 2, kWarps), tiles(params.m, rows)),
                           kWarps * 32, params));
}

bool fits_mma(const Problem& p) {
  return fits_portable(p) && is_half(p.in_type(kX)) && p.in_type(kW) == p.in_type(kX) &&
         packed(p.in_stride(kX), p.in_stride(kW));
}

void launch_mma(const Problem& p, std::vector<Launch>& out) {
  const LinearTileParams params = tile_params(p);
  const bool bf16 = p.in_type(kX) == DType::bf16;
  const bool large = tiles(params.m, 128) * tiles(params.n, 128) >= unsigned(p.device.processors) * 2 / 3;
  const int tile = large ? 128 : 64, stages = large ? 3 : 4;
  const char* kernel = large ? (bf16 ? "linear_mma_bf16_128x128" : "linear_mma_f16_128x128")
                             : (bf16 ? "linear_mma_bf16_64x64" : "linear_mma_f16_64x64");
  const unsigned shared = unsigned(stages * 2 * tile * 64 * 2);  // x and w tiles, 64 elements of 2 bytes deep
  out.push_back(Launch::of(kernel, dim3(tiles(params.m, tile), tiles(params.n, tile)), large ? 256 : 128,
                           params, shared));
}

void launch_simt(const Problem& p, std::vector<Launch>& out) {
  const LinearTileParams params = tile_params(p);
  out.push_back(Launch::of("linear_simt", dim3(tiles(params.m, 64), tiles(params.n, 64)), 128, params));
}

constexpr Implementation kTable[] = {
    {"gemv_sm90", fits_linear_gemv, launch_linear_gemv},  // one row: weights stream past it
    {"packed", fits_linear_packed,
     launch_linear_packed},  // sm_90, up to 8 rows: codes decoded as they stream
    {"stream", fits_linear_stream, launch_linear_stream},  // sm_90, up to 64 rows: weights at memory speed
    {"wgmma", fits_linear_wgmma, launch_linear_wgmma},     // sm_90, hundreds of rows
    {"gemv", fits_gemv, launch_gemv},
    {"mma", fits_mma, launch_mma},
    {"simt", fits_portable, launch_simt},
};

}  // namespace

std::span<const Implementation> linear_table() { return kTable; }

}  // namespace flashrt::cuda
