// Case format 1: one recorded policy call, inputs and expected actions, to replay against the source's
// results.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace flashrt {

// safetensors with metadata format=flashrt-case-1, kind=policy. Values are finite.
//   in.image.N     f32 [3, H, W]          in [-1, 1], one per camera slot, N = 0, 1, …
//   in.image_mask  i32 [N]                0: the camera is absent
//   in.token_ids   i32 [T]                prompt tokens, padded
//   in.token_mask  i32 [T]                0: padding
//   in.state       f32 [S]                normalised and padded; absent where the network takes no state
//   in.noise       f32 [horizon, action]  where the sampler starts
//   out.actions    f32 [horizon, action]  in model space
struct CaseImage {
  int64_t height = 0, width = 0;
  std::vector<float> values;  // [3, height, width]
};

struct PolicyCase {
  std::vector<CaseImage> images;
  std::vector<int32_t> image_mask, token_ids, token_mask;
  std::vector<float> state;
  int64_t horizon = 0, action_dim = 0;
  std::vector<float> noise, actions;         // [horizon, action_dim]
  std::map<std::string, std::string> notes;  // other metadata: how it was recorded
};

PolicyCase read_policy_case(const std::string& path);
void write_policy_case(const std::string& path, const PolicyCase& policy_case);

}  // namespace flashrt
