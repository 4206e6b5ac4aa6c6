// Robot transforms against values recorded from the published formulas.
#include "io/robot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "io/prompt.h"

namespace flashrt {
namespace {

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    return e.what();
  }
  return "no error";
}

PolicyConfig openpi(PolicyFamily family) {
  PolicyConfig config;
  config.layout = PolicyLayout::openpi;
  config.family = family;
  return config;
}

std::vector<std::vector<float>> lines(const std::string& name) {
  std::ifstream file(FLASHRT_TEST_DATA "/robot/transforms.txt");
  std::vector<std::vector<float>> found;
  for (std::string line, word; std::getline(file, line);) {
    std::istringstream words(line);
    words >> word;
    if (word != name) continue;
    found.emplace_back();
    for (double v; words >> v;) found.back().push_back(float(v));
  }
  return found;
}

std::span<const float> part(const std::vector<float>& v, size_t begin, size_t size) {
  return std::span(v).subspan(begin, size);
}

TEST(Robot, StateBins) {
  const auto cases = lines("bin");
  ASSERT_GT(cases.size(), 600u);
  for (const auto& c : cases) EXPECT_EQ(state_bin(c[0]), int(c[1])) << c[0];
}

TEST(Robot, AlohaStates) {
  const Robot robot = find_robot("aloha", openpi(PolicyFamily::pi0));
  const auto cases = lines("aloha_state");
  ASSERT_EQ(cases.size(), 5u);
  for (const auto& c : cases) {
    std::vector<float> state(c.begin(), c.begin() + 14);
    check_state(robot, state);
    adapt_state(robot, state);
    for (size_t i = 0; i < 14; ++i) EXPECT_NEAR(state[i], c[14 + i], 2e-6) << i;
  }
}

TEST(Robot, AlohaActionsAreOffsetsTurnedAndRescaled) {
  const Robot robot = find_robot("aloha", openpi(PolicyFamily::pi0));
  for (const auto& c : lines("aloha_actions")) {
    std::vector<float> out(14);
    finish_actions(robot, part(c, 0, 14), part(c, 14, 32), 32, out);
    for (size_t i = 0; i < 14; ++i) EXPECT_NEAR(out[i], c[46 + i], 2e-6) << i;
  }
}

TEST(Robot, LiberoActionsAreOffsetsForPi0Only) {
  const Robot pi0 = find_robot("libero", openpi(PolicyFamily::pi0)),
              pi05 = find_robot("libero", openpi(PolicyFamily::pi05));
  const auto cases = lines("libero_actions");
  ASSERT_EQ(cases.size(), 3u);
  for (const auto& c : cases) {
    std::vector<float> out(7), plain(7);
    finish_actions(pi0, part(c, 0, 8), part(c, 8, 32), 32, out);
    finish_actions(pi05, part(c, 0, 8), part(c, 8, 32), 32, plain);
    for (size_t i = 0; i < 7; ++i) {
      EXPECT_NEAR(out[i], c[40 + i], 1e-6) << i;
      EXPECT_EQ(plain[i], c[8 + i]) << i;
    }
  }
}

TEST(Robot, EveryRowOfAChunkIsFinished) {
  const Robot robot = find_robot("droid", openpi(PolicyFamily::pi05));
  std::vector<float> actions(3 * 32), state(8, 100.0f), out(3 * 8);
  for (size_t i = 0; i < actions.size(); ++i) actions[i] = float(i);
  finish_actions(robot, state, actions, 32, out);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], float(i / 8 * 32 + i % 8));
  const Robot joints = find_robot("droid_jointpos", openpi(PolicyFamily::pi05));
  finish_actions(joints, state, actions, 32, out);
  EXPECT_EQ(out[6], 106.0f);
  EXPECT_EQ(out[7], 7.0f);  // the gripper is absolute
}

TEST(Robot, TheCheckpointDecidesWhatIsRelative) {
  PolicyConfig config;  // LeRobot
  EXPECT_TRUE(find_robot("aloha", config).relative_actions.empty());
  EXPECT_TRUE(find_robot("libero", config).relative_actions.empty());
  config.relative_actions = {false, true};
  EXPECT_EQ(find_robot("libero", config).relative_actions, (std::vector<bool>{false, true}));
}

TEST(Robot, GenericTakesItsSizesFromTheCheckpoint) {
  PolicyConfig config;
  config.robot_state_dim = 6;
  config.robot_action_dim = 5;
  config.cameras = {"front", "side"};
  const Robot robot = find_robot("generic", config);
  EXPECT_EQ(robot.state_dim, 6);
  EXPECT_EQ(robot.action_dim, 5);
  EXPECT_EQ(find_camera(robot, "side"), 1u);
  config.robot_state_dim = config.robot_action_dim = 0;
  EXPECT_EQ(find_robot("generic", config).state_dim, 32);
  EXPECT_EQ(find_robot("generic", config).action_dim, 32);
}

TEST(Robot, RefusesBadInput) {
  const PolicyConfig config = openpi(PolicyFamily::pi0);
  EXPECT_EQ(error_of([&] { find_robot("spot", config); }),
            "unknown robot 'spot': expected one of libero, droid, droid_jointpos, aloha, aloha_sim, generic");
  const Robot robot = find_robot("libero", config);
  EXPECT_EQ(error_of([&] { check_state(robot, std::vector<float>(7)); }),
            "state: expected 8 values for robot libero, found 7");
  std::vector<float> state(8);
  state[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(error_of([&] { check_state(robot, state); }), "state[3] is not finite: nan");
  EXPECT_EQ(error_of([&] { find_camera(robot, "top"); }),
            "unknown camera 'top' of robot libero: expected one of image, wrist_image");
  EXPECT_EQ(find_camera(robot, "wrist_image"), 1u);
  EXPECT_EQ(find_camera(robot, "left_wrist_0_rgb"), 1u);
  PolicyConfig small = config;
  small.action_dim = 4;
  EXPECT_NE(error_of([&] { find_robot("libero", small); }).find("7 action dimensions"), std::string::npos);
}

}  // namespace
}  // namespace flashrt
