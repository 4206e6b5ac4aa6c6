// What a robot's states, actions and cameras look like to a policy, and back (openpi's policy transforms).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/policy_config.h"

namespace flashrt {

struct RobotCamera {
  std::string key;   // the robot's name of the camera
  std::string slot;  // the policy's
};

// Order of one control cycle, per openpi:
//   check_state → adapt_state → normalise → (prompt, network) → un-normalise → finish_actions
struct Robot {
  std::string_view name;
  int state_dim = 0, action_dim = 0;   // 0: as the checkpoint says
  std::vector<RobotCamera> cameras;    // in the network's order; all but the first may be absent
  std::vector<bool> relative_actions;  // dimensions whose actions are offsets from the state; may be shorter
  bool aloha_joints = false;           // states and actions cross between ALOHA's and Pi's joint conventions
};

// libero, droid, droid_jointpos, aloha, aloha_sim, generic. `config` decides what the family and the
// checkpoint say: of openpi's, pi0's LIBERO actions are relative and pi0.5's are not; a checkpoint's own list
// wins. LIBERO's images come turned by 180°, as its clients send them.
Robot find_robot(std::string_view name, const PolicyConfig& config);
std::vector<std::string_view> robot_names();

// Index into robot.cameras by the robot's name or the policy's; throws Error(input) listing the known ones.
size_t find_camera(const Robot& robot, std::string_view name);

// Throws Error(input) for a wrong length or a value that is not finite.
void check_state(const Robot& robot, std::span<const float> state);

// Before normalisation, in place.
void adapt_state(const Robot& robot, std::span<float> state) noexcept;

// After un-normalisation: `actions` [horizon, stride] → `out` [horizon, action_dim]; adds `state` where
// actions are relative. `state` is adapted and has passed through normalisation and back, as openpi echoes
// it.
void finish_actions(const Robot& robot, std::span<const float> state, std::span<const float> actions,
                    int stride, std::span<float> out) noexcept;

}  // namespace flashrt
