// Pi0 and Pi0.5: SigLIP images and text through a Gemma prefix, actions by flow matching through a Gemma
// expert.
#pragma once

#include "io/policy_config.h"
#include "models/weights.h"

namespace flashrt {

// The shapes a program is built for.
struct PolicyShape {
  int64_t views = 1;        // cameras that are present
  int64_t text_tokens = 0;  // room for the prompt; shorter prompts are padded at the end
  int64_t horizon = 0;      // actions of a chunk
  int64_t steps = 0;        // of the sampler
  DType image = DType::u8;  // u8: HWC bytes; f32: CHW already in [-1, 1]
};

// Records the policy. Inputs: `image` [views, …] as image_patches takes it, `token_ids` i32 [1, text_tokens],
// `prefix_length` i32 [1, 1] = image tokens + real text tokens, `state` f32 [1, state_dim] (Pi0 only),
// `noise` f32 [horizon, action_dim]. Output: `actions` f32 [horizon, action_dim], normalised. Stages: vision,
// prefix, action.
void record_pi0(Program& program, const PolicyConfig& config, const WeightSource& source,
                const PolicyShape& shape);

}  // namespace flashrt
