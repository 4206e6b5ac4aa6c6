// Heights are smooth functions of the horizontal error: hover when far, descend when aligned.
#include "tabletop/expert.h"

#include <algorithm>

namespace flashrt::tabletop {
namespace {

constexpr float kHover = 0.62f;  // fingertips while travelling empty
constexpr float kCarry = 0.36f;  // underside of the held block while travelling
constexpr float kGain = 0.75f;   // share of the remaining error covered per step
constexpr float kBesideTarget = 0.18f;
constexpr float kPushStart = 0.05f;  // gap between gripper and block before pushing

float ramp(float v, float from, float to) { return std::clamp((v - from) / (to - from), 0.f, 1.f); }

// Move by (d, dz), the horizontal part scaled by `speed` and limited to the unit disc.
Action move(Vec d, float dz, float speed, float grip) {
  Vec command = d * (kGain / kReach);
  const float n = length(command);
  if (n > 1) command = command * (1 / n);
  return {command.x * speed, command.y * speed, std::clamp(dz * (kGain / kRise), -1.f, 1.f), grip};
}

Action retreat(const World& world) { return move({}, kHover - world.gripper.z, 0, -1); }

// Travel at hover height, then come down over `target` to `low`.
Action descend_over(const Gripper& g, Vec target, float low, bool ready, float grip) {
  const Vec error = target - g.at;
  const float d = length(error);
  const float near = ready ? ramp(d, 0.06f, 0.02f) : 0;
  const float z = kHover + (low - kHover) * near;
  const float clear = d < 0.06f ? 1 : ramp(g.z, 0.22f, 0.4f);  // do not sweep through blocks
  return move(error, z - g.z, clear, grip);
}

Action grasp(const World& world, int index) {
  const Gripper& g = world.gripper;
  const Block& b = world.blocks[size_t(index)];
  const Vec rel = b.at - g.at;
  const float low = b.z + 0.03f;
  if (std::abs(rel.x) < 0.035f && std::abs(rel.y) < 0.024f && g.z < b.z + 0.12f) {
    return move(rel, low - g.z, 1, 1);
  }
  const bool around = g.z < b.z + kBlockHeight && length(rel) < 0.06f;  // on the way down
  return descend_over(g, b.at, low, around || g.opening > 0.8f, -1);
}

// Carry the held block so that it comes to rest at `goal` on a support of height `base`, then let go.
Action deliver(const World& world, Vec goal, float base) {
  const Gripper& g = world.gripper;
  const Block& b = world.blocks[size_t(g.held)];
  const Vec error = goal - b.at;
  const float d = length(error);
  const float carry = std::max(kCarry, base + 0.1f);
  const float z = carry + (base + 0.005f - carry) * ramp(d, 0.06f, 0.02f);
  const float clear = d < 0.06f ? 1 : ramp(b.z, 0.1f, kBlockHeight);
  const bool release = d < 0.03f && b.z < base + 0.03f;
  return move(error, z - b.z, clear, release ? -1.f : 1.f);
}

bool placed(const World& world, const Task& task) {
  if (!succeeded(world, task)) return false;
  const Block& a = world.blocks[size_t(task.object)];
  if (task.family == Family::place) {  // a margin inside what counts
    const Vec off = a.at - world.zones[size_t(task.zone)].at;
    return std::max(std::abs(off.x), std::abs(off.y)) < 0.8f * kZoneHalf;
  }
  return true;
}

Action push_block(const World& world, const Task& task) {
  const Gripper& g = world.gripper;
  const Block& a = world.blocks[size_t(task.object)];
  const Vec along = direction(task.side), across{-along.y, along.x};
  const float remaining = edge_distance(a.at, task.side) - (kEdgeStrip - 0.03f);
  if (g.held >= 0) return move({}, 0, 0, -1);  // the fingers closed on something on the way down
  if (remaining <= 0) return move({}, kHover - g.z, 0, 1);
  // Extent of the closed gripper towards the block: two fingers side by side along x, pads along y.
  const float extent = along.x != 0 ? 2 * kFingerRadius : kPadHalf + kFingerRadius;
  const Vec rel = a.at - g.at;
  const float ahead = dot(rel, along) - extent - kBlockRadius, aside = dot(rel, across);
  if (g.z < 0.12f && ahead > -0.03f && ahead < 0.16f && std::abs(aside) < 0.045f) {
    const float speed = 0.035f + 0.03f * ramp(remaining, 0.02f, 0.12f);
    const float straight = 1 - ramp(std::abs(aside), 0.01f, 0.045f);
    return move((along * (speed * straight) + across * aside) * (1 / kGain), 0.03f - g.z, 1, 1);
  }
  const Vec start = a.at - along * (kBlockRadius + extent + kPushStart);
  return descend_over(g, start, 0.03f, g.opening < 0.1f || g.z < kBlockHeight, 1);
}

Vec beside_goal(const World& world, const Task& task) {
  const Vec b = world.blocks[size_t(task.other)].at, to = world.blocks[size_t(task.object)].at - b;
  const float d = std::max(length(to), 1e-3f);
  return b + to * (kBesideTarget / d);
}

}  // namespace

Action expert_action(const World& world, const Task& task) {
  const Gripper& g = world.gripper;
  if (task.family == Family::push) return push_block(world, task);
  if (g.held >= 0 && g.held != task.object) {  // the wrong block: put it down
    const Block& b = world.blocks[size_t(g.held)];
    return move({}, -b.z, 0, b.z < 0.03f || g.z <= 0.03f ? -1.f : 1.f);
  }
  if (g.held < 0) return placed(world, task) ? retreat(world) : grasp(world, task.object);
  const Block& a = world.blocks[size_t(task.object)];
  switch (task.family) {
    case Family::place: return deliver(world, world.zones[size_t(task.zone)].at, 0);
    case Family::stack: {
      const Block& b = world.blocks[size_t(task.other)];
      return deliver(world, b.at, b.z + kBlockHeight);
    }
    case Family::beside: return deliver(world, beside_goal(world, task), 0);
    case Family::lift: return move({}, 0.62f - a.z, 0, 1);
    case Family::push: break;
  }
  return {};
}

}  // namespace flashrt::tabletop
