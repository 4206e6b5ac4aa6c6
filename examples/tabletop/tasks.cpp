// Layout sampling by rejection, prompt templates with paraphrases, success conditions.
#include "tabletop/tasks.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "tabletop/random.h"

namespace flashrt::tabletop {
namespace {

constexpr float kClearance = 0.21f;  // between block centres: an open gripper fits between
constexpr float kCorridor = 0.16f;   // half-width of the free way in front of a block to push
constexpr const char* kFamilyNames[] = {"place", "push", "stack", "beside", "lift"};
constexpr const char* kColourNames[] = {"red", "green", "blue", "yellow", "purple"};
constexpr const char* kShapeNames[] = {"cube", "disc", "triangle"};
constexpr const char* kShapeSynonyms[] = {"box", "puck", "wedge"};
constexpr const char* kSideNames[] = {"left", "right", "top", "bottom"};

// {A} the object, {B} the other block, {Z} the zone's colour, {D} the side.
constexpr const char* kPlace[] = {"put the {A} in the {Z} zone", "move the {A} to the {Z} zone",
                                  "place the {A} on the {Z} area", "take the {A} into the {Z} area",
                                  "the {A} belongs in the {Z} zone"};
constexpr const char* kPush[] = {"push the {A} to the {D}", "slide the {A} to the {D} side",
                                 "shove the {A} over to the {D}", "push the {A} towards the {D} edge"};
constexpr const char* kStack[] = {"stack the {A} on the {B}", "put the {A} on top of the {B}",
                                  "place the {A} onto the {B}", "build a tower with the {A} on the {B}"};
constexpr const char* kBeside[] = {"put the {A} next to the {B}", "move the {A} beside the {B}",
                                   "bring the {A} close to the {B}", "gather the {A} with the {B}"};
constexpr const char* kLift[] = {"pick up the {A}", "lift the {A}", "grab the {A} and hold it up",
                                 "raise the {A} off the table"};

std::span<const char* const> templates(Family family) {
  switch (family) {
    case Family::place: return kPlace;
    case Family::push: return kPush;
    case Family::stack: return kStack;
    case Family::beside: return kBeside;
    case Family::lift: return kLift;
  }
  return {};
}

void replace(std::string& text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  if (at != std::string::npos) text.replace(at, what.size(), with);
}

std::string noun(const Block& b, Random& random) {
  const char* shape = random.chance(0.3f) ? kShapeSynonyms[int(b.shape)] : kShapeNames[int(b.shape)];
  return std::string(name(b.colour)) + " " + shape;
}

std::string make_prompt(const World& world, const Task& task, Random& random) {
  const auto choices = templates(task.family);
  std::string text = choices[size_t(random.below(int(choices.size())))];
  const Block& a = world.blocks[size_t(task.object)];
  replace(text, "{A}", noun(a, random));
  if (task.other >= 0) {
    const Block& b = world.blocks[size_t(task.other)];
    const bool one = b.shape == a.shape && random.chance(0.5f);  // "the yellow cube on the blue one"
    replace(text, "{B}", one ? std::string(name(b.colour)) + " one" : noun(b, random));
  }
  if (task.zone >= 0) replace(text, "{Z}", name(world.zones[size_t(task.zone)].colour));
  replace(text, "{D}", name(task.side));
  return text;
}

// Every block gets its own pair of shape and colour. Block 1 is the reference of two-block tasks; block 2
// shares the colour of block 0 and block 3 its shape, so that both words count.
void choose_looks(World& world, Random& random) {
  for (int i = 0; i < world.block_count; ++i) {
    Block& b = world.blocks[size_t(i)];
    bool taken = true;
    while (taken) {
      b.shape = Shape(random.below(kShapes));
      b.colour = Colour(random.below(kColours));
      if (i == 2) b.colour = world.blocks[0].colour;
      if (i == 3) b.shape = world.blocks[0].shape;
      taken = false;
      for (int j = 0; j < i; ++j) {
        taken |= world.blocks[size_t(j)].shape == b.shape && world.blocks[size_t(j)].colour == b.colour;
      }
    }
  }
  const int first = random.below(kColours);
  world.zones[0].colour = Colour(first);
  world.zones[1].colour = Colour((first + 1 + random.below(kColours - 1)) % kColours);
}

bool place_everything(World& world, Random& random) {
  for (int i = 0; i < kZones; ++i) {
    world.zones[size_t(i)].at = {random.between(0.15f, 0.85f), random.between(0.15f, 0.85f)};
  }
  const Vec apart = world.zones[0].at - world.zones[1].at;
  if (std::max(std::abs(apart.x), std::abs(apart.y)) < 2 * kZoneHalf + 0.04f) return false;
  for (int i = 0; i < world.block_count; ++i) {
    Block& b = world.blocks[size_t(i)];
    b.at = {random.between(0.12f, 0.88f), random.between(0.12f, 0.88f)};
    for (int j = 0; j < i; ++j) {
      if (length(b.at - world.blocks[size_t(j)].at) < kClearance) return false;
    }
    for (const Zone& z : world.zones) {
      if (length(b.at - z.at) < kClearance) return false;
    }
    float turn_x, turn_y, n;  // a random unit vector by rejection: no libm, the same bits everywhere
    do {
      turn_x = random.between(-1, 1);
      turn_y = random.between(-1, 1);
      n = turn_x * turn_x + turn_y * turn_y;
    } while (n > 1 || n < 0.01f);
    b.cosine = turn_x / std::sqrt(n);
    b.sine = turn_y / std::sqrt(n);
  }
  return true;
}

bool free_of_blocks(const World& world, const Task& task, Vec at, float radius) {
  for (int i = 0; i < world.block_count; ++i) {
    if (i == task.object || i == task.other) continue;
    if (length(world.blocks[size_t(i)].at - at) < radius) return false;
  }
  return true;
}

bool corridor_free(const World& world, const Task& task) {
  const Vec from = world.blocks[size_t(task.object)].at, along = direction(task.side);
  const Vec across{-along.y, along.x};
  for (int i = 0; i < world.block_count; ++i) {
    if (i == task.object) continue;
    const Vec rel = world.blocks[size_t(i)].at - from;
    if (dot(rel, along) > -0.25f && std::abs(dot(rel, across)) < kCorridor) return false;
  }
  return true;
}

// The scene leaves room for the task and does not already satisfy it.
bool feasible(const World& world, const Task& task) {
  const Vec a = world.blocks[size_t(task.object)].at;
  switch (task.family) {
    case Family::push: {
      const float d = edge_distance(a, task.side);
      return d > 0.4f && d < 0.75f && corridor_free(world, task);
    }
    case Family::beside: {
      const Vec to = a - world.blocks[size_t(task.other)].at;
      const float d = length(to);
      return d > 0.36f && free_of_blocks(world, task, a + to * ((0.18f - d) / d), 0.2f);
    }
    case Family::place:
    case Family::stack:
    case Family::lift: break;
  }
  return true;
}

}  // namespace

const char* name(Family family) { return kFamilyNames[int(family)]; }
const char* name(Shape shape) { return kShapeNames[int(shape)]; }
const char* name(Colour colour) { return kColourNames[int(colour)]; }
const char* name(Side side) { return kSideNames[int(side)]; }

bool parse_family(const std::string& text, Family& family) {
  const auto* found = std::find(std::begin(kFamilyNames), std::end(kFamilyNames), text);
  if (found == std::end(kFamilyNames)) return false;
  family = Family(found - std::begin(kFamilyNames));
  return true;
}

Vec direction(Side side) {
  switch (side) {
    case Side::left: return {-1, 0};
    case Side::right: return {1, 0};
    case Side::top: return {0, 1};
    case Side::bottom: return {0, -1};
  }
  return {};
}

float edge_distance(Vec at, Side side) {
  switch (side) {
    case Side::left: return at.x;
    case Side::right: return 1 - at.x;
    case Side::top: return 1 - at.y;
    case Side::bottom: return at.y;
  }
  return 0;
}

Episode make_episode(uint64_t seed) {
  Episode e;
  e.seed = seed;
  Random random(seed * 0x2545f4914f6cdd1dull + 0x1234567);
  e.task.family = Family(seed % kFamilies);
  e.world.block_count = 4 + random.below(2);
  choose_looks(e.world, random);
  const bool pair = e.task.family == Family::stack || e.task.family == Family::beside;
  e.task.other = pair ? 1 : -1;
  e.task.zone = e.task.family == Family::place ? random.below(kZones) : -1;
  e.task.side = Side(random.below(4));
  while (!place_everything(e.world, random) || !feasible(e.world, e.task)) {
  }
  Gripper& g = e.world.gripper;
  g.at = {random.between(0.15f, 0.85f), random.between(0.15f, 0.85f)};
  g.z = random.between(0.55f, 0.9f);
  g.opening = random.between(0.2f, 1.f);
  e.prompt = make_prompt(e.world, e.task, random);
  return e;
}

std::string swapped_prompt(const Episode& episode) {
  Random random(episode.seed + 0x77777777);
  Task task = episode.task;
  const int other = task.other;
  do {
    task.object = random.below(episode.world.block_count);
  } while (task.object == episode.task.object || task.object == other);
  return make_prompt(episode.world, task, random);
}

bool succeeded(const World& world, const Task& task) {
  const Block& a = world.blocks[size_t(task.object)];
  const bool held = world.gripper.held == task.object;
  switch (task.family) {
    case Family::place: {
      const Vec off = a.at - world.zones[size_t(task.zone)].at;
      return !held && a.z == 0 && std::max(std::abs(off.x), std::abs(off.y)) < kZoneHalf;
    }
    case Family::push: return !held && a.z == 0 && edge_distance(a.at, task.side) < kEdgeStrip;
    case Family::stack:
      return !held && support_of(world, task.object, a.at, a.z) == task.other && a.z > 0 &&
             a.z < world.blocks[size_t(task.other)].z + kBlockHeight + 0.01f;
    case Family::beside: {
      const Block& b = world.blocks[size_t(task.other)];
      return !held && a.z == 0 && b.z == 0 && world.gripper.held != task.other &&
             length(a.at - b.at) < kBesideMax;
    }
    case Family::lift: return held && a.z > kLiftHeight;
  }
  return false;
}

}  // namespace flashrt::tabletop
