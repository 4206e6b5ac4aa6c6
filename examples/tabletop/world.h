// The tabletop: blocks, zones and a two-finger gripper, stepped at 10 Hz with bit-reproducible float
// arithmetic.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>

namespace flashrt::tabletop {

// Lengths are in table sides: x grows to the right, y to the top of the picture, both in [0, 1]. Heights are
// in units of the gripper's range: z = 0 is the table.
struct Vec {
  float x = 0, y = 0;
};
inline Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y}; }
inline Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y}; }
inline Vec operator*(Vec a, float s) { return {a.x * s, a.y * s}; }
inline float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y; }
inline float length(Vec a) { return std::sqrt(dot(a, a)); }

inline constexpr int kMaxBlocks = 6;
inline constexpr int kZones = 2;
inline constexpr int kStateDim = 4;            // x, y, z, opening
inline constexpr int kActionDim = 4;           // dx, dy, dz, grip
inline constexpr float kBlockRadius = 0.062f;  // collision disc of every shape
inline constexpr float kBlockHeight = 0.25f;
inline constexpr float kZoneHalf = 0.11f;  // half the side of a zone
inline constexpr float kFingerRadius = 0.016f;
inline constexpr float kPadHalf = 0.03f;     // half the length of a finger pad, along y
inline constexpr float kMaxGap = 0.1f;       // half the gap between the pads at opening 1
inline constexpr float kReach = 0.07f;       // xy travel of one control step at full command
inline constexpr float kRise = 0.14f;        // z travel of one control step at full command
inline constexpr float kMaxSupport = 0.05f;  // a block rests on another if the centres are closer than this

enum class Shape : uint8_t { cube, disc, triangle };
enum class Colour : uint8_t { red, green, blue, yellow, purple };
inline constexpr int kShapes = 3, kColours = 5;

struct Block {
  Shape shape = Shape::cube;
  Colour colour = Colour::red;
  Vec at;
  float z = 0;                 // height of the underside
  Vec velocity;                // per substep
  float cosine = 1, sine = 0;  // yaw
};

struct Zone {
  Colour colour = Colour::red;
  Vec at;
};

struct Gripper {
  Vec at{0.5f, 0.5f};
  float z = 0.7f;     // height of the fingertips, 0 to 1
  float opening = 1;  // 0 closed to 1 open
  int held = -1;      // index of the held block
  Vec grip;           // held block's centre relative to the gripper
  float grip_z = 0;   // held block's underside relative to the fingertips
};

// One control step's command, every component in [-1, 1]: velocity in x, y, z, and the gripper (-1 open, +1
// close).
struct Action {
  float dx = 0, dy = 0, dz = 0, grip = 0;
};

// Trivially copyable on purpose: a copy is a what-if rollout.
struct World {
  std::array<Block, kMaxBlocks> blocks;
  int block_count = 0;
  std::array<Zone, kZones> zones;
  Gripper gripper;

  std::span<Block> active() { return {blocks.data(), size_t(block_count)}; }
  std::span<const Block> active() const { return {blocks.data(), size_t(block_count)}; }
  std::array<float, kStateDim> state() const {
    return {gripper.at.x, gripper.at.y, gripper.z, gripper.opening};
  }
  void step(Action action);

 private:
  void substep(const Action& action);
  void move_gripper(const Action& action);
  void move_fingers(float target);
  void carry_held();
  void settle_heights();
  void solve_contacts(Vec gripper_motion);
  float floor_below() const;
  bool try_grasp(int index);
};

// Index of the highest block whose top carries something at `at` with its underside at `z`; -1 for the table.
int support_of(const World& world, int self, Vec at, float z);

}  // namespace flashrt::tabletop
