// Expert episodes as training data: rolled out with perturbations, labelled with what the clean expert would
// do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tabletop/tasks.h"

namespace flashrt::tabletop {

struct RecordOptions {
  int image_size = 112;  // pixels a side
  int horizon = 16;      // actions per frame
  int stride = 1;        // keep every stride-th frame, from a random one on
  int tail = 8;          // frames recorded after success, so that the policy learns to stay
  float noise = 0.6f;    // share of episodes with perturbed actions
};

// One episode's frames, one after another; prompts and success are per episode.
struct Recording {
  std::string prompt;
  bool success = false;
  int frames = 0;
  std::vector<uint8_t> images;  // [frames, cameras, size, size, 3]
  std::vector<float> states;    // [frames, kStateDim]
  std::vector<float>
      actions;  // [frames, horizon, kActionDim]: the expert rolled out without noise from this frame
};

// Deterministic in `seed` and the options.
void record_episode(uint64_t seed, const RecordOptions& options, Recording& out);

// Writes shard files of `episodes_per_shard` episodes with the seeds first_seed, first_seed + 1, … into
// `folder` (created). Returns the number of frames. Throws std::runtime_error when something cannot be
// written or a seed is reserved for evaluation.
size_t record_shards(const std::filesystem::path& folder, uint64_t first_seed, int episodes,
                     const RecordOptions& options, int episodes_per_shard = 500);

}  // namespace flashrt::tabletop
