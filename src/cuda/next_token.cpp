// Implementations of the greedy choice.
#include "ops/next_token.h"

#include <algorithm>

#include "cuda/kernels/common/next_token_params.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

constexpr int kMostBlocks = 128;

bool fits(const Problem& p) { return p.in(0).cols < int64_t{1} << 30; }

size_t workspace(const Problem&) { return kMostBlocks * sizeof(NextTokenParams::Part) + sizeof(int); }

void launch_choice(const Problem& p, std::vector<Launch>& out) {
  auto* parts = static_cast<NextTokenParams::Part*>(p.workspace);
  const NextTokenParams params{.logits = p.in_data<const float>(0),
                               .count = int(p.in(0).cols),
                               .parts = parts,
                               .arrived = reinterpret_cast<int*>(parts + kMostBlocks),
                               .token = p.out_data<int>(0),
                               .ids = p.out_data<int>(2),
                               .position = p.out_data<int>(3),
                               .log_probability = p.out_data<float>(1)};
  const int64_t blocks = std::clamp<int64_t>((p.in(0).cols + 1023) / 1024, 1, kMostBlocks);
  out.push_back(Launch::of("next_token", unsigned(blocks), 256, params));
}

constexpr Implementation kTable[] = {
    {"blocks", fits, launch_choice, workspace},
};

}  // namespace

std::span<const Implementation> next_token_table() { return kTable; }

}  // namespace flashrt::cuda
