// The embedded tuning table: every row names a choice that its implementation accepts, and trials come first.
#include "cuda/tuning.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "cuda/implementation.h"
#include "cuda/linear_stream.h"
#include "cuda/linear_wgmma.h"

namespace flashrt::cuda {
namespace {

constexpr const char* kDevice = "NVIDIA H200";

CUresult encode_nothing(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                        const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                        CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}

// Why a row of the streaming linear cannot run; empty when it can. The heads are those of the shape's
// 256-wide ones.
std::string refusal_of_stream(const TunedRow& row) {
  constexpr std::string_view kVariants[] = {"plain", "residual", "pair", "qkv"};
  const auto variant = std::ranges::find(kVariants, row.variant);
  if (variant == std::end(kVariants)) return fmt::format("no variant {}", row.variant);
  LinearStreamParams p{};
  p.m = int(row.shape[0]), p.n = int(row.shape[1]), p.k = int(row.shape[2]);
  p.epilogue = StreamEpilogue(variant - kVariants);
  p.head_dim = 256;
  static constexpr float kScale = 0;
  if (p.epilogue == StreamEpilogue::pair || p.epilogue == StreamEpilogue::qkv) p.norm_scale = &kScale;
  const auto& t = row.tactic;
  const StreamLaunch launch =
      plan_linear_stream(p, nullptr, {t[0], t[1], t[2], t[3], t[4], t[5]}, encode_nothing);
  return launch.error != nullptr ? launch.error : "";
}

std::string refusal_of_wgmma(const TunedRow& row) {
  constexpr std::string_view kVariants[] = {"plain", "pair", "heads"};
  const auto variant = std::ranges::find(kVariants, row.variant);
  if (variant == std::end(kVariants)) return fmt::format("no variant {}", row.variant);
  const auto& t = row.tactic;
  LinearParams epilogue{};
  epilogue.out_stride = row.shape[1];
  if (row.variant == "heads")
    epilogue.head_dim = 256, epilogue.query_heads = int(row.shape[1] / 256) - 2, epilogue.kv_heads = 1;
  return linear_refusal(
      {.m = int(row.shape[0]),
       .n = int(row.shape[1]),
       .k = int(row.shape[2]),
       .x_stride = (row.shape[2] + 7) / 8 * 8,  // as the image patches are, which are padded
       .w_stride = cuda::weight_stride(row.shape[2]),
       .rows = LinearRows(variant - kVariants)},
      epilogue, {.rows = t[0], .tokens = t[1], .cluster_rows = t[2], .cluster_tokens = t[3], .split = t[4]});
}

TEST(Tuning, EveryRowOfALinearRuns) {
  ASSERT_FALSE(tuned_rows(kDevice).empty());
  for (const TunedRow& row : tuned_rows(kDevice)) {
    if (row.op != "linear") continue;
    SCOPED_TRACE(fmt::format("{} {} {}x{}x{}", row.implementation, row.variant, row.shape[0], row.shape[1],
                             row.shape[2]));
    ASSERT_TRUE(row.implementation == "stream" || row.implementation == "wgmma");
    EXPECT_EQ(row.implementation == "stream" ? refusal_of_stream(row) : refusal_of_wgmma(row), "");
  }
}

TEST(Tuning, RowsServeNeighbouringCountsOfRows) {
  const int64_t shape[] = {968, 2048, 16384}, near[] = {960, 2048, 16384}, far[] = {890, 2048, 16384};
  const TunedRow* row = find_tuned(kDevice, "linear", "wgmma", "plain", shape);
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->shape[0], 968);
  EXPECT_EQ(find_tuned(kDevice, "linear", "wgmma", "plain", near), row);
  EXPECT_EQ(find_tuned(kDevice, "linear", "wgmma", "plain", far), nullptr);
  EXPECT_EQ(find_tuned("another device", "linear", "wgmma", "plain", shape), nullptr);
}

TEST(Tuning, ATrialComesFirst) {
  const int64_t shape[] = {968, 2048, 16384}, near[] = {960, 2048, 16384};
  trial_rows().push_back({.op = "linear",
                          .implementation = "wgmma",
                          .variant = "plain",
                          .shape = {968, 2048, 16384},
                          .tactic = {64}});
  EXPECT_EQ(find_tuned(kDevice, "linear", "wgmma", "plain", shape)->tactic[0], 64);
  EXPECT_NE(find_tuned(kDevice, "linear", "wgmma", "plain", near)->tactic[0], 64);
  trial_rows().clear();
  EXPECT_NE(find_tuned(kDevice, "linear", "wgmma", "plain", shape)->tactic[0], 64);
}

}  // namespace
}  // namespace flashrt::cuda
