// What a Pi0 or Pi0.5 checkpoint says about itself: sizes, sampler, and the rules of the code that trained
// it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "io/json.h"
#include "io/norm_stats.h"

namespace flashrt {

enum class PolicyFamily { pi0, pi05 };                      // pi0.5: adaRMS expert, state as text
enum class PolicyLayout { lerobot, openpi, transformers };  // who wrote the directory

// SigLIP: a patch embedding, pre-norm blocks with biases, a final norm.
struct VisionDims {
  int64_t width = 1152, layers = 27, mlp = 4304, heads = 16, image_size = 224, patch = 14;
  double norm_epsilon = 1e-6;
  int64_t tokens() const { return (image_size / patch) * (image_size / patch); }
};

// A Gemma stack; the language model and the action expert differ in width and mlp only.
struct DecoderDims {
  int64_t width = 2048, layers = 18, mlp = 16384, heads = 8, kv_heads = 1, head_dim = 256;
  double norm_epsilon = 1e-6, rope_theta = 10000;
};

enum class ResizeRule { pillow_antialias, torch_bilinear, bicubic };
// openpi strips and cleans the prompt and encodes "\n" apart; the others encode prompt and "\n" together, as
// given.
enum class PromptRule { openpi, lerobot, transformers };
// t of step k of N: added up in f32 from 1 (openpi), or 1 − k/N in double, then f32.
enum class TimeGrid { accumulated_f32, multiplied_f64 };

struct PolicyConfig {
  PolicyFamily family = PolicyFamily::pi0;
  PolicyLayout layout = PolicyLayout::lerobot;

  VisionDims vision;
  DecoderDims language, expert{.width = 1024, .mlp = 4096};
  int64_t vocab = 257152;
  int64_t action_dim = 32, state_dim = 32;  // as the network sees them, padded
  int64_t horizon = 50;                     // actions of a chunk
  int64_t max_prompt_tokens = 48;
  int64_t steps = 10;                        // of the sampler
  double min_period = 4e-3, max_period = 4;  // of the time embedding
  double embedding_scale = 0;                // of token embeddings: √width, rounded as the source does
  TimeGrid time_grid = TimeGrid::multiplied_f64;
  DType time_precision = DType::f64;  // of the time embedding in the source: f32 or f64
  DType source_dtype = DType::f32;    // what the source computes in: f32, bf16 or f16

  std::vector<std::string> cameras;            // slots in the network's order, short names
  std::map<std::string, std::string> renames;  // the robot's observation keys → the policy's
  ResizeRule resize = ResizeRule::torch_bilinear;
  PromptRule prompt = PromptRule::lerobot;
  bool state_in_prompt = false;  // pi0.5: bins of the normalised state are part of the text
  int64_t executed_actions = 0;  // actions of a chunk the source executes; 0: not stated
  int64_t robot_state_dim = 0, robot_action_dim = 0;  // before padding; 0: not stated
  std::vector<bool> relative_actions;  // dimensions that are offsets from the state; empty: none

  NormMode state_mode = NormMode::identity, action_mode = NormMode::identity;
  Normalizer state, action;  // identity where the checkpoint carries no statistics
};

std::string_view name_of(PolicyFamily family);
std::string_view name_of(PolicyLayout layout);
std::string_view name_of(ResizeRule rule);
std::string_view name_of(PromptRule rule);

// Reads config.json of any layout; statistics and processors are not part of it. `adaptive_norms` tells the
// family when the file does not (openpi). Every number is range-checked.
PolicyConfig read_policy_config(const JsonNode& config, bool adaptive_norms);

// LeRobot's name of a mode, as "MEAN_STD".
NormMode read_norm_mode(const JsonNode& node);

// Sizes that cannot be: throws Error(input) naming `source`.
void check_policy_config(const PolicyConfig& config, const std::string& source);

}  // namespace flashrt
