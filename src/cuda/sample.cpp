// Implementations of drawing a token.
#include "ops/sample.h"

#include <algorithm>

#include "cuda/kernels/common/sample_params.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

int64_t blocks(const Problem& p) {
  constexpr int64_t of_block = kSampleThreads * kSampleOwn;
  return (p.in(0).cols + of_block - 1) / of_block;
}

bool fits(const Problem& p) { return blocks(p) <= std::min<int64_t>(kSampleBlocks, p.device.processors); }

size_t workspace(const Problem&) { return sizeof(SampleScratch); }

void launch_draw(const Problem& p, std::vector<Launch>& out) {
  const SampleParams params{.logits = p.in_data<const float>(0),
                            .bias = p.in_data<const float>(1),
                            .seen = p.out_data<int>(4),
                            .settings = p.in_data<const SamplingSettings>(3),
                            .count = int(p.in(0).cols),
                            .scratch = static_cast<SampleScratch*>(p.workspace),
                            .token = p.out_data<int>(0),
                            .ids = p.out_data<int>(2),
                            .position = p.out_data<int>(3),
                            .log_probability = p.out_data<float>(1)};
  out.push_back(Launch::of("sample", unsigned(blocks(p)), kSampleThreads, params));
  out.back().cooperative = true;
}

constexpr Implementation kTable[] = {
    {"digits", fits, launch_draw, workspace},
};

}  // namespace

std::span<const Implementation> sample_table() { return kTable; }

}  // namespace flashrt::cuda
