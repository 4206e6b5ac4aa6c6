// Which table belongs to which op.
#include "cuda/tables.h"

#include "ops/activation.h"
#include "ops/append.h"
#include "ops/attention.h"
#include "ops/attention_step.h"
#include "ops/concat.h"
#include "ops/embedding.h"
#include "ops/euler_step.h"
#include "ops/experts.h"
#include "ops/flow_step.h"
#include "ops/image_patches.h"
#include "ops/linear.h"
#include "ops/next_token.h"
#include "ops/norm.h"
#include "ops/position_embedding.h"
#include "ops/residual.h"
#include "ops/rope.h"
#include "ops/sample.h"
#include "ops/split.h"
#include "ops/time_embedding.h"
#include "ops/unpack.h"

namespace flashrt::cuda {

std::span<const Implementation> implementations(const OpDef& op) {
  struct Row {
    const OpDef* op;
    std::span<const Implementation> (*table)();
  };
  static constexpr Row rows[] = {
      {&kNormOp, norm_table},
      {&kNextTokenOp, next_token_table},
      {&kSampleOp, sample_table},
      {&kExpertsOp, experts_table},
      {&kActivationOp, activation_table},
      {&kResidualOp, residual_table},
      {&kRopeOp, rope_table},
      {&kRopeAppendOp, rope_append_table},
      {&kAppendOp, append_table},
      {&kAttentionOp, attention_table},
      {&kAttentionStepOp, attention_step_table},
      {&kLinearOp, linear_table},
      {&kSplitOp, split_table},
      {&kConcatOp, concat_table},
      {&kEmbeddingOp, embedding_table},
      {&kPositionEmbeddingOp, position_embedding_table},
      {&kImagePatchesOp, image_patches_table},
      {&kTimeEmbeddingOp, time_embedding_table},
      {&kEulerStepOp, euler_step_table},
      {&kFlowStepOp, flow_step_table},
      {&kUnpackOp, unpack_table},
  };
  for (const Row& row : rows) {
    if (row.op == &op) return row.table();
  }
  return {};
}

int64_t Problem::in_stride(size_t i) const {
  const TensorInfo& t = program.info(line.in[i]);
  return t.kind == Kind::weight ? weight_stride(t.shape.cols) : t.shape.cols;
}

}  // namespace flashrt::cuda
