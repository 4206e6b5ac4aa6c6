// Position-based contacts with Coulomb friction: the gripper moves, blocks give way, slide on a little, stack
// and fall.
#include "tabletop/world.h"

#include <algorithm>

namespace flashrt::tabletop {
namespace {

constexpr int kSubsteps = 5;  // 50 Hz
constexpr int kContactSweeps = 4;
constexpr float kTableFriction = 0.0014f;  // speed lost per substep, in travel per substep
constexpr float kMaxSlide = 0.014f;        // fastest slide per substep
constexpr float kContactFriction = 0.4f;
constexpr float kFall = 0.06f;                    // height lost per substep when unsupported
constexpr float kFingerSpeed = 0.3f / kSubsteps;  // opening per substep
constexpr float kGripperMargin = 0.04f;
constexpr float kLevelSlack = 0.02f;  // blocks closer in height than a block minus this touch side by side

float command(float v) { return v == v ? std::clamp(v, -1.f, 1.f) : 0.f; }  // NaN: stand still

void rotate(Block& b, float angle) {  // small angles; renormalised, no libm
  const float c = b.cosine - b.sine * angle, s = b.sine + b.cosine * angle;
  const float scale = 1.f / std::sqrt(c * c + s * s);
  b.cosine = c * scale;
  b.sine = s * scale;
}

// Pushes `b` by `depth` along `normal`; the tangential motion of what pushes it drags and turns it, up to
// friction.
void push(Block& b, Vec normal, float depth, Vec motion) {
  b.at = b.at + normal * depth;
  const Vec tangent{-normal.y, normal.x};
  const float limit = kContactFriction * depth;
  const float drag = std::clamp(dot(motion, tangent), -limit, limit);
  b.at = b.at + tangent * (0.5f * drag);
  rotate(b, -drag / kBlockRadius);
}

// The nearest point to `p` of the finger pad (a capsule along y) on the given side (-1 left, +1 right).
Vec pad_point(const Gripper& g, int side, Vec p) {
  const float x = g.at.x + float(side) * (g.opening * kMaxGap + kFingerRadius);
  return {x, std::clamp(p.y, g.at.y - kPadHalf, g.at.y + kPadHalf)};
}

void keep_on_table(Block& b) {
  b.at.x = std::clamp(b.at.x, kBlockRadius, 1.f - kBlockRadius);
  b.at.y = std::clamp(b.at.y, kBlockRadius, 1.f - kBlockRadius);
}

}  // namespace

int support_of(const World& world, int self, Vec at, float z) {
  int best = -1;
  for (int j = 0; j < world.block_count; ++j) {
    const Block& b = world.blocks[j];
    if (j == self || j == world.gripper.held || length(b.at - at) > kMaxSupport) continue;
    if (b.z + kBlockHeight <= z + 0.03f && (best < 0 || b.z > world.blocks[best].z)) best = j;
  }
  return best;
}

// The lowest fingertip height the blocks underneath allow: fingers stop on tops, a held block stops on its
// support.
float World::floor_below() const {
  float floor = 0;
  for (int i = 0; i < block_count; ++i) {
    if (i == gripper.held) continue;
    const Block& b = blocks[i];
    const float top = b.z + kBlockHeight;
    for (int side : {-1, 1}) {
      const bool over = length(pad_point(gripper, side, b.at) - b.at) < kBlockRadius + kFingerRadius - 0.012f;
      if (over && gripper.z >= top - 0.001f) floor = std::max(floor, top);
    }
  }
  if (gripper.held >= 0) {
    const Block& h = blocks[gripper.held];
    const int below = support_of(*this, gripper.held, h.at, h.z);
    floor = std::max(floor, (below < 0 ? 0 : blocks[below].z + kBlockHeight) - gripper.grip_z);
  }
  return floor;
}

void World::move_gripper(const Action& a) {
  Gripper& g = gripper;
  g.at.x = std::clamp(g.at.x + a.dx * (kReach / kSubsteps), kGripperMargin, 1.f - kGripperMargin);
  g.at.y = std::clamp(g.at.y + a.dy * (kReach / kSubsteps), kGripperMargin, 1.f - kGripperMargin);
  const float floor = floor_below();
  g.z = std::clamp(g.z + a.dz * (kRise / kSubsteps), std::min(floor, 1.f), 1.f);
}

// A grasp needs both pads on the block, its centre between them and the tips well below its top.
bool World::try_grasp(int i) {
  const Block& b = blocks[i];
  Gripper& g = gripper;
  const Vec rel = b.at - g.at;
  const bool low = g.z < b.z + 0.7f * kBlockHeight && g.z >= b.z - 0.01f;
  if (!low || std::abs(rel.y) > kPadHalf || std::abs(rel.x) > 0.02f) return false;
  if (g.opening * kMaxGap > kBlockRadius + 0.001f) return false;
  for (int j = 0; j < block_count; ++j) {  // nothing may sit on it
    if (j != i && support_of(*this, j, blocks[j].at, blocks[j].z) == i) return false;
  }
  g.held = i;
  g.grip = {0, rel.y};
  g.grip_z = b.z - g.z;
  return true;
}

void World::move_fingers(float target) {
  Gripper& g = gripper;
  g.opening += std::clamp(target - g.opening, -kFingerSpeed, kFingerSpeed);
  constexpr float hold = kBlockRadius / kMaxGap;  // the opening at which the pads touch a block
  if (g.held >= 0) {
    if (g.opening > hold + 0.05f) {
      blocks[g.held].velocity = {};
      g.held = -1;
    } else {
      g.opening = std::max(g.opening, hold);
    }
  } else if (target < g.opening) {
    for (int i = 0; i < block_count; ++i) {
      if (try_grasp(i)) {
        g.opening = hold;
        break;
      }
    }
  }
}

void World::carry_held() {
  if (gripper.held < 0) return;
  Block& b = blocks[gripper.held];
  b.at = gripper.at + gripper.grip;
  keep_on_table(b);
  b.z = std::max(0.f, gripper.z + gripper.grip_z);
}

void World::settle_heights() {
  for (int i = 0; i < block_count; ++i) {
    if (i == gripper.held) continue;
    Block& b = blocks[i];
    const int below = support_of(*this, i, b.at, b.z);
    const float rest = below < 0 ? 0 : blocks[below].z + kBlockHeight;
    b.z = std::max(rest, b.z - kFall);
  }
}

void World::solve_contacts(Vec gripper_motion) {
  for (int i = 0; i < block_count; ++i) {  // fingers
    Block& b = blocks[i];
    if (i == gripper.held || gripper.z > b.z + kBlockHeight - kLevelSlack || gripper.z < b.z - kBlockHeight)
      continue;
    for (int side : {-1, 1}) {
      const Vec away = b.at - pad_point(gripper, side, b.at);
      const float d = length(away), depth = kBlockRadius + kFingerRadius - d;
      if (depth > 0 && d > 1e-6f) push(b, away * (1.f / d), depth, gripper_motion);
    }
  }
  for (int i = 0; i < block_count; ++i) {  // pairs
    for (int j = i + 1; j < block_count; ++j) {
      Block &a = blocks[i], &b = blocks[j];
      if (std::abs(a.z - b.z) > kBlockHeight - kLevelSlack) continue;
      const Vec away = b.at - a.at;
      const float d = length(away), depth = 2 * kBlockRadius - d;
      if (depth <= 0 || d < 1e-6f) continue;
      const Vec normal = away * (1.f / d);
      const float share = i == gripper.held ? 1.f : j == gripper.held ? 0.f : 0.5f;
      const Vec slip = i == gripper.held || j == gripper.held ? gripper_motion : Vec{};
      if (share > 0) push(b, normal, depth * share, slip);
      if (share < 1) push(a, normal * -1.f, depth * (1 - share), slip);
    }
  }
  for (int i = 0; i < block_count; ++i) keep_on_table(blocks[i]);
}

void World::substep(const Action& action) {
  std::array<Vec, kMaxBlocks> before;
  for (int i = 0; i < block_count; ++i) before[i] = blocks[i].at;
  const Vec gripper_before = gripper.at;
  move_gripper(action);
  carry_held();
  move_fingers((1.f - action.grip) * 0.5f);
  settle_heights();
  std::array<int, kMaxBlocks> support;
  for (int i = 0; i < block_count; ++i) {
    support[i] = i == gripper.held ? -1 : support_of(*this, i, blocks[i].at, blocks[i].z);
    if (i != gripper.held) blocks[i].at = blocks[i].at + blocks[i].velocity;
  }
  for (int sweep = 0; sweep < kContactSweeps; ++sweep) solve_contacts(gripper.at - gripper_before);
  for (int i = 0; i < block_count; ++i) {
    Block& b = blocks[i];
    if (i == gripper.held) {
      gripper.grip = b.at - gripper.at;  // a wall may have pushed it along the pads
      continue;
    }
    if (support[i] >= 0) b.at = b.at + (blocks[support[i]].at - before[support[i]]);  // rides along
    const Vec moved = support[i] >= 0 ? Vec{} : b.at - before[i];
    const float speed = length(moved);
    const float slide = std::min(speed, kMaxSlide) - kTableFriction;
    b.velocity = slide > 0 ? moved * (slide / speed) : Vec{};
  }
}

void World::step(Action a) {
  const Action safe{command(a.dx), command(a.dy), command(a.dz), command(a.grip)};
  for (int i = 0; i < kSubsteps; ++i) substep(safe);
}

}  // namespace flashrt::tabletop
