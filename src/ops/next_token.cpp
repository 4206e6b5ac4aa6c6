// Definition of the greedy choice.
#include "ops/next_token.h"

#include <algorithm>
#include <cmath>

namespace flashrt {

namespace {

void reference(RefCall& call) {
  const float* logits = call.f32(0);
  const int64_t count = call.in_shape(0).cols;
  const auto unusable = [](float v) { return std::isnan(v) || v == INFINITY; };
  const bool failed = std::any_of(logits, logits + count, unusable);
  const int32_t best = failed ? 0 : int32_t(std::max_element(logits, logits + count) - logits);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(double(logits[i]) - logits[best]);
  *static_cast<int32_t*>(call.raw_out(0)) = failed ? -1 : best;
  *call.out(1) = float(-std::log(sum));
  *static_cast<int32_t*>(call.raw_out(2)) = best;
  *static_cast<int32_t*>(call.raw_out(3)) = *call.i32(2) + 1;
}

}  // namespace

const OpDef kNextTokenOp{.name = "next_token", .reference = reference};

NextToken next_token(Tensor logits, Tensor ids, Tensor position, At at) {
  require(logits.rows() == 1 && logits.dtype() == DType::f32, at,
          "next_token: logits must be f32 [1, vocabulary]");
  require(ids.shape() == Shape{1, 1} && position.shape() == Shape{1, 1}, at,
          "next_token: one id, one position");
  Program& program = *logits.program;
  const NextToken next{program.temp({1, 1}, DType::i32), program.temp({1, 1}, DType::f32)};
  program.record(kNextTokenOp, {logits, ids, position},
                 {next.token, next.log_probability, program.version(ids), program.version(position)}, 0, at);
  return next;
}

}  // namespace flashrt
