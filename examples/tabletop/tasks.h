// Episodes from seeds: a layout with distractors, a task in words, and the check that it is done.
#pragma once

#include <string>

#include "tabletop/world.h"

namespace flashrt::tabletop {

enum class Family : uint8_t { place, push, stack, beside, lift };
inline constexpr int kFamilies = 5;
enum class Side : uint8_t { left, right, top, bottom };

inline constexpr int kTimeLimit = 80;       // control steps
inline constexpr int kHoldFrames = 4;       // success must last this many steps
inline constexpr float kEdgeStrip = 0.2f;   // "to the left": the centre is closer than this to the left edge
inline constexpr float kBesideMax = 0.23f;  // "next to": centres closer than this
inline constexpr float kLiftHeight = 0.5f;  // "pick up": held with the underside above this
// Seeds below this are for evaluation; the recorder takes only seeds from here on.
inline constexpr uint64_t kFirstTrainingSeed = 1'000'000;

struct Task {
  Family family = Family::place;
  int object = 0;  // the block to move
  int other = -1;  // the block to stack on or put next to
  int zone = -1;
  Side side = Side::left;
};

struct Episode {
  uint64_t seed = 0;
  World world;
  Task task;
  std::string prompt;
};

const char* name(Family family);
const char* name(Shape shape);
const char* name(Colour colour);
const char* name(Side side);
// False when no family has this name.
bool parse_family(const std::string& text, Family& family);

// The episode of a seed; its family is seed % kFamilies, so consecutive seeds are balanced.
Episode make_episode(uint64_t seed);
// A prompt for the same scene and family but another object: obeying it cannot do `episode.task`.
std::string swapped_prompt(const Episode& episode);
// Done in this very frame; an episode succeeds once this held for kHoldFrames frames in a row.
bool succeeded(const World& world, const Task& task);
Vec direction(Side side);
// Distance of `at` from the given edge of the table.
float edge_distance(Vec at, Side side);

}  // namespace flashrt::tabletop
