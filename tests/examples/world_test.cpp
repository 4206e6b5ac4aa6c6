// The tabletop's physics, its layouts and prompts, and that the same seed is the same bits everywhere.
#include "tabletop/world.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <set>

#include "tabletop/compress.h"
#include "tabletop/expert.h"
#include "tabletop/render.h"

namespace flashrt::tabletop {
namespace {

World one_block(Vec at) {
  World w;
  w.block_count = 1;
  w.blocks[0].at = at;
  w.gripper.at = {0.5f, 0.5f};
  return w;
}

void repeat(World& w, Action a, int steps) {
  for (int i = 0; i < steps; ++i) w.step(a);
}

// A hash over the positions and both pictures along expert episodes. It changes only when the world, the
// expert or the renderer changes on purpose; then retrain the policy, for its training data changed too.
TEST(World, SameBitsOnEveryMachine) {
  std::vector<uint8_t> bytes, image(image_bytes(kImageSize));
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Episode e = make_episode(seed);
    for (int t = 0; t < 30; ++t) e.world.step(expert_action(e.world, e.task));
    for (const Block& b : e.world.active()) {
      const float values[] = {b.at.x, b.at.y, b.z, b.cosine, b.sine};
      const auto* p = reinterpret_cast<const uint8_t*>(values);
      bytes.insert(bytes.end(), p, p + sizeof values);
    }
    for (Camera c : {Camera::top, Camera::wrist}) {
      render(e.world, c, kImageSize, image);
      bytes.insert(bytes.end(), image.begin(), image.end());
    }
    bytes.insert(bytes.end(), e.prompt.begin(), e.prompt.end());
  }
  EXPECT_EQ(fnv1a(bytes), 4114257354u);
}

TEST(World, GraspsLiftsAndStacks) {
  World w = one_block({0.5f, 0.5f});
  w.blocks[1].at = {0.8f, 0.5f};
  w.block_count = 2;
  repeat(w, {0, 0, -1, -1}, 8);
  EXPECT_EQ(w.gripper.z, 0);
  repeat(w, {0, 0, 0, 1}, 6);
  ASSERT_EQ(w.gripper.held, 0);
  repeat(w, {0, 0, 1, 1}, 4);
  EXPECT_GT(w.blocks[0].z, 0.4f);
  repeat(w, {0.3f / 0.07f / 6, 0, 0, 1}, 6);
  EXPECT_NEAR(w.blocks[0].at.x, 0.8f, 0.005f);
  repeat(w, {0, 0, -1, 1}, 8);  // stops on the other block instead of passing through it
  EXPECT_NEAR(w.blocks[0].z, kBlockHeight, 0.02f);
  repeat(w, {0, 0, 0, -1}, 4);
  EXPECT_EQ(w.gripper.held, -1);
  EXPECT_EQ(w.blocks[0].z, kBlockHeight);
  EXPECT_EQ(support_of(w, 0, w.blocks[0].at, w.blocks[0].z), 1);
  EXPECT_EQ(w.blocks[1].z, 0);
}

TEST(World, AMissedGraspHoldsNothing) {
  World w = one_block({0.5f, 0.55f});  // beyond the pads
  repeat(w, {0, 0, -1, -1}, 8);
  repeat(w, {0, 0, 0, 1}, 8);
  EXPECT_EQ(w.gripper.held, -1);
}

TEST(World, PushesABlockThatPushesAnotherThatSlidesToRest) {
  World w = one_block({0.5f, 0.5f});
  w.blocks[1].at = {0.65f, 0.5f};
  w.block_count = 2;
  w.gripper.at = {0.35f, 0.5f};
  w.gripper.opening = 0;
  w.gripper.z = 0;
  repeat(w, {0.5f, 0, 0, 1}, 8);
  EXPECT_GT(w.blocks[0].at.x, 0.6f);
  EXPECT_GT(w.blocks[1].at.x, w.blocks[0].at.x + 2 * kBlockRadius - 0.005f);
  EXPECT_NEAR(w.blocks[1].at.y, 0.5f, 0.02f);
  repeat(w, {-0.5f, 0, 0, 1}, 8);
  const World rest = w;
  repeat(w, {0, 0, 0, 1}, 5);
  EXPECT_EQ(w.blocks[1].at.x, rest.blocks[1].at.x);  // friction stopped it
}

TEST(World, ClosedFingersStandOnABlockAndBlocksStayOnTheTable) {
  World w = one_block({0.5f, 0.5f});
  w.gripper.opening = 0;
  repeat(w, {0, 0, -1, 1}, 10);
  EXPECT_EQ(w.gripper.z, kBlockHeight);
  w = one_block({0.9f, 0.9f});
  w.gripper.at = {0.8f, 0.9f};
  w.gripper.opening = w.gripper.z = 0;
  repeat(w, {1, 0.3f, 0, 1}, 30);
  EXPECT_LE(w.blocks[0].at.x, 1 - kBlockRadius);
  EXPECT_LE(w.blocks[0].at.y, 1 - kBlockRadius);
}

TEST(World, AnUnsupportedBlockFalls) {
  World w = one_block({0.2f, 0.2f});
  w.blocks[0].z = 0.5f;
  repeat(w, {}, 4);
  EXPECT_EQ(w.blocks[0].z, 0);
}

TEST(World, BadCommandsAreClippedAndNanStandsStill) {
  World a = one_block({0.2f, 0.2f}), b = a;
  a.step({100, -100, 5, -9});
  b.step({1, -1, 1, -1});
  EXPECT_EQ(a.state(), b.state());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  a.step({nan, nan, nan, nan});
  for (float v : a.state()) EXPECT_TRUE(std::isfinite(v));
  EXPECT_EQ(a.gripper.at.x, b.gripper.at.x);
}

TEST(Tasks, LayoutsAreUnambiguousAndNotAlreadyDone) {
  std::set<std::string> prompts;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const Episode e = make_episode(seed);
    EXPECT_EQ(int(e.task.family), int(seed % kFamilies));
    EXPECT_FALSE(succeeded(e.world, e.task)) << seed;
    EXPECT_LT(e.prompt.size(), 64u);
    EXPECT_EQ(e.prompt.find('{'), std::string::npos) << e.prompt;
    prompts.insert(e.prompt);
    std::set<std::pair<int, int>> looks;
    bool same_colour = false;
    const Block& object = e.world.blocks[size_t(e.task.object)];
    EXPECT_NE(e.prompt.find(name(object.colour)), std::string::npos);
    for (const Block& b : e.world.active()) {
      looks.insert({int(b.shape), int(b.colour)});
      same_colour |= b.colour == object.colour && b.shape != object.shape;
    }
    EXPECT_EQ(int(looks.size()), e.world.block_count);
    EXPECT_TRUE(same_colour);  // the colour alone does not identify the object
  }
  EXPECT_GT(prompts.size(), 600u);
}

TEST(Tasks, FamilyNamesParse) {
  Family f{};
  EXPECT_TRUE(parse_family("stack", f));
  EXPECT_EQ(f, Family::stack);
  EXPECT_FALSE(parse_family("juggle", f));
}

}  // namespace
}  // namespace flashrt::tabletop
