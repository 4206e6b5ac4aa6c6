// Definition of the split.
#include "ops/split.h"

#include <numeric>

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const Shape shape = call.in_shape(0);
  int64_t begin = 0;
  for (size_t j = 0; j < call.line.out.size(); ++j) {
    const int64_t width = call.out_shape(j).cols;
    for (int64_t r = 0; r < shape.rows; ++r) {
      const float* x = call.f32(0) + r * shape.cols + begin;
      std::copy(x, x + width, call.out(j) + r * width);
    }
    begin += width;
  }
}

}  // namespace

const OpDef kSplitOp{.name = "split", .reference = reference};

std::vector<Tensor> split(Tensor x, std::span<const int64_t> widths, At at) {
  require(widths.size() <= 4 && std::accumulate(widths.begin(), widths.end(), int64_t{0}) == x.cols(), at,
          "split: widths must sum to {}", x.cols());
  std::vector<Tensor> out;
  for (int64_t width : widths) out.push_back(x.program->temp({x.rows(), width}, x.program->compute()));
  x.program->record(kSplitOp, {x}, out, 0, at);
  return out;
}

}  // namespace flashrt
