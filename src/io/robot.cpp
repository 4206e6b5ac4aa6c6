// The robots of openpi's published checkpoints.
#include "io/robot.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace flashrt {

namespace {

constexpr std::string_view kNames[] = {"libero", "droid", "droid_jointpos", "aloha", "aloha_sim", "generic"};
constexpr const char *kBase = "base_0_rgb", *kLeft = "left_wrist_0_rgb", *kRight = "right_wrist_0_rgb";

// Two arms of six joints and a gripper; Pi turns three joints of each arm the other way.
constexpr int kAlohaDims = 14;
constexpr std::array<float, kAlohaDims> kAlohaSigns = {1, -1, -1, 1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1};
constexpr bool is_gripper(int i) { return i == 6 || i == 13; }

// ALOHA's linear gripper opening 0…1 → finger position in metres → angle of the crank (law of cosines, horn
// 22 mm, arm 36 mm) → Pi's angular range 0…1.
double gripper_to_angular(double v) {
  constexpr double kClosed = 0.01844, kOpen = 0.05800, kHorn = 0.022, kArm = 0.036, kLow = 0.5476,
                   kHigh = 1.6296;
  const double position = v * (kOpen - kClosed) + kClosed;
  const double sine = (kHorn * kHorn + position * position - kArm * kArm) / (2 * kHorn * position);
  return (std::asin(std::clamp(sine, -1.0, 1.0)) - kLow) / (kHigh - kLow);
}

// Pi's angle above its zero → the range of ALOHA's gripper joint.
double gripper_from_angular(double v) { return (v + 0.5476 + 0.6213) / (1.4910 + 0.6213); }

std::vector<bool> dims(std::initializer_list<int> runs) {  // {6, -1}: six true, one false
  std::vector<bool> mask;
  for (const int run : runs) mask.insert(mask.end(), size_t(std::abs(run)), run > 0);
  return mask;
}

}  // namespace

std::vector<std::string_view> robot_names() { return {std::begin(kNames), std::end(kNames)}; }

Robot find_robot(std::string_view name, const PolicyConfig& config) {
  const bool openpi = config.layout == PolicyLayout::openpi;
  Robot robot{.name = name};
  if (name == "libero") {
    robot.state_dim = 8;  // position, axis-angle, two gripper joints
    robot.action_dim = 7;
    robot.cameras = {{"image", kBase}, {"wrist_image", kLeft}};
    if (openpi && config.family == PolicyFamily::pi0) robot.relative_actions = dims({6, -1});
  } else if (name == "droid" || name == "droid_jointpos") {
    robot.state_dim = robot.action_dim = 8;  // seven joints, gripper
    robot.cameras = {{"exterior_image_1_left", kBase}, {"wrist_image_left", kLeft}};
    if (name == "droid_jointpos") robot.relative_actions = dims({7, -1});
  } else if (name == "aloha" || name == "aloha_sim") {
    robot.state_dim = robot.action_dim = kAlohaDims;
    robot.cameras = {{"cam_high", kBase}, {"cam_left_wrist", kLeft}, {"cam_right_wrist", kRight}};
    robot.aloha_joints = true;
    if (openpi && name == "aloha") robot.relative_actions = dims({6, -1, 6, -1});
  } else if (name == "generic") {
    robot.state_dim = int(config.robot_state_dim);
    robot.action_dim = int(config.robot_action_dim);
    for (const std::string& camera : config.cameras) robot.cameras.push_back({camera, camera});
  } else {
    fail("unknown robot '{}': expected one of {}", name, fmt::join(kNames, ", "));
  }
  robot.name = *std::find(std::begin(kNames), std::end(kNames), name);
  if (!config.relative_actions.empty()) robot.relative_actions = config.relative_actions;
  if (robot.state_dim == 0) robot.state_dim = int(config.state_dim);
  if (robot.action_dim == 0) robot.action_dim = int(config.action_dim);
  if (robot.action_dim > config.action_dim) {
    fail("robot {}: {} action dimensions, but the checkpoint has {}", robot.name, robot.action_dim,
         config.action_dim);
  }
  return robot;
}

size_t find_camera(const Robot& robot, std::string_view name) {
  for (size_t i = 0; i < robot.cameras.size(); ++i) {
    if (name == robot.cameras[i].key || name == robot.cameras[i].slot) return i;
  }
  std::string known;
  for (const RobotCamera& camera : robot.cameras) known += (known.empty() ? "" : ", ") + camera.key;
  fail("unknown camera '{}' of robot {}: expected one of {}", name, robot.name, known);
}

void check_state(const Robot& robot, std::span<const float> state) {
  if (int(state.size()) != robot.state_dim) {
    fail("state: expected {} values for robot {}, found {}", robot.state_dim, robot.name, state.size());
  }
  for (size_t i = 0; i < state.size(); ++i) {
    if (!std::isfinite(state[i])) fail("state[{}] is not finite: {}", i, state[i]);
  }
}

void adapt_state(const Robot& robot, std::span<float> state) noexcept {
  if (!robot.aloha_joints) return;
  for (int i = 0; i < kAlohaDims; ++i) {
    float& v = state[size_t(i)];
    v = is_gripper(i) ? float(gripper_to_angular(v)) : v * kAlohaSigns[size_t(i)];
  }
}

void finish_actions(const Robot& robot, std::span<const float> state, std::span<const float> actions,
                    int stride, std::span<float> out) noexcept {
  const int dim = robot.action_dim, relative = std::min(int(robot.relative_actions.size()), dim);
  for (size_t row = 0; row < out.size() / size_t(dim); ++row) {
    const float* in = actions.data() + row * size_t(stride);
    float* to = out.data() + row * size_t(dim);
    for (int i = 0; i < dim; ++i) {
      to[i] = in[i];
      if (i < relative && robot.relative_actions[size_t(i)]) to[i] += state[size_t(i)];
      if (robot.aloha_joints)
        to[i] = is_gripper(i) ? float(gripper_from_angular(to[i])) : to[i] * kAlohaSigns[size_t(i)];
    }
  }
}

}  // namespace flashrt
