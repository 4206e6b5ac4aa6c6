// Every shape is a signed distance in table units; coverage of a pixel is how far the distance is inside it.
#include "tabletop/render.h"

#include <algorithm>

namespace flashrt::tabletop {
namespace {

constexpr Rgb kTable{226, 219, 205}, kGrid{214, 206, 191}, kOutside{58, 62, 70}, kStrip{190, 180, 163};
constexpr Rgb kFinger{44, 48, 58}, kPad{120, 128, 142}, kShadow{40, 36, 30};
constexpr float kGrow = 0.22f;         // apparent growth per unit of height: nearer to the camera
constexpr float kShadowShift = 0.07f;  // shadow offset per unit of height

struct Canvas {
  std::span<uint8_t> rgb;
  int size;
  Vec centre;
  float half;   // half the side of the view, table units
  float pixel;  // side of a pixel, table units

  float x(int column) const { return centre.x - half + (float(column) + 0.5f) * pixel; }
  float y(int row) const { return centre.y + half - (float(row) + 0.5f) * pixel; }
};

Rgb mix(Rgb a, Rgb b, float t) {
  const auto channel = [t](uint8_t u, uint8_t v) {
    return uint8_t(float(u) + (float(v) - float(u)) * t + 0.5f);
  };
  return {channel(a.r, b.r), channel(a.g, b.g), channel(a.b, b.b)};
}

void blend(uint8_t* p, Rgb c, int alpha) {  // alpha 0..256
  p[0] = uint8_t(p[0] + (((int(c.r) - p[0]) * alpha) >> 8));
  p[1] = uint8_t(p[1] + (((int(c.g) - p[1]) * alpha) >> 8));
  p[2] = uint8_t(p[2] + (((int(c.b) - p[2]) * alpha) >> 8));
}

// Paints where distance(p − at) < 0, softened over `soft` table units; `bound` is a radius that contains the
// shape.
template <class Distance>
void paint(Canvas& canvas, Vec at, float bound, Rgb colour, float opacity, float soft, Distance&& distance) {
  const float scale = 1.f / canvas.pixel, feather = 1.f / std::max(soft, canvas.pixel);
  bound += canvas.pixel + soft;
  const float left = (at.x - bound - canvas.centre.x + canvas.half) * scale;
  const float top = (canvas.centre.y + canvas.half - at.y - bound) * scale;
  const float span = 2 * bound * scale + 1;
  const int c0 = std::max(0, int(left)), c1 = std::min(canvas.size, int(left + span) + 1);
  const int r0 = std::max(0, int(top)), r1 = std::min(canvas.size, int(top + span) + 1);
  const float strength = opacity * 256.f;
  for (int r = r0; r < r1; ++r) {
    const float y = canvas.y(r) - at.y;
    uint8_t* row = canvas.rgb.data() + size_t(r) * size_t(canvas.size) * 3;
    for (int c = c0; c < c1; ++c) {
      const float coverage = 0.5f - distance(Vec{canvas.x(c) - at.x, y}) * feather;
      if (coverage > 0) blend(row + c * 3, colour, int(std::min(coverage, 1.f) * strength));
    }
  }
}

float box_distance(Vec p, float half_x, float half_y, float round) {
  const float dx = std::abs(p.x) - half_x + round, dy = std::abs(p.y) - half_y + round;
  const float ox = std::max(dx, 0.f), oy = std::max(dy, 0.f);
  const float outside = ox > 0 && oy > 0 ? std::sqrt(ox * ox + oy * oy) : ox + oy;
  return outside + std::min(std::max(dx, dy), 0.f) - round;
}

float shape_distance(Shape shape, Vec p) {
  switch (shape) {
    case Shape::cube: return box_distance(p, 0.055f, 0.055f, 0.01f);
    case Shape::disc: return std::sqrt(p.x * p.x + p.y * p.y) - 0.062f;
    case Shape::triangle: {  // equilateral, the largest of three half-planes
      const float side = std::abs(p.x) * 0.8660254f + p.y * 0.5f;
      return std::max(side, -p.y) - 0.042f;
    }
  }
  return 1;
}
constexpr float kShapeBound = 0.09f;

void paint_block(Canvas& canvas, const Block& b, Vec shift, float grow, float inset, Rgb colour,
                 float opacity, float soft) {
  const float scale = 1.f / grow;
  paint(canvas, b.at + shift, kShapeBound * grow, colour, opacity, soft, [&](Vec p) {
    const Vec local{(p.x * b.cosine + p.y * b.sine) * scale, (p.y * b.cosine - p.x * b.sine) * scale};
    return (shape_distance(b.shape, local) + inset) * grow;
  });
}

void draw_block(Canvas& canvas, const Block& b) {
  const Rgb colour = rgb_of(b.colour);
  const float grow = 1 + kGrow * b.z;
  paint_block(canvas, b, {0.01f + kShadowShift * b.z, -0.012f - kShadowShift * b.z}, grow, 0, kShadow, 0.35f,
              0.012f + 0.02f * b.z);
  paint_block(canvas, b, {}, grow, 0, mix(colour, {0, 0, 0}, 0.45f), 1, 0);
  paint_block(canvas, b, {-0.002f, 0.003f}, grow, 0.009f, colour, 1, 0);
}

void draw_zone(Canvas& canvas, const Zone& z) {
  const Rgb colour = rgb_of(z.colour);
  const auto square = [](float inset) {
    return [inset](Vec p) { return std::max(std::abs(p.x), std::abs(p.y)) - kZoneHalf + inset; };
  };
  paint(canvas, z.at, kZoneHalf, mix(kTable, colour, 0.8f), 1, 0, square(0));
  paint(canvas, z.at, kZoneHalf, mix(kTable, colour, 0.38f), 1, 0, square(0.016f));
}

void draw_gripper(Canvas& canvas, const Gripper& g) {
  const float grow = 1 + kGrow * g.z;
  const float x = (g.opening * kMaxGap + kFingerRadius) * grow;
  const float pad = (kPadHalf + kFingerRadius) * grow, width = kFingerRadius * grow;
  const Vec shade{0.01f + kShadowShift * g.z, -0.012f - kShadowShift * g.z};
  const auto finger = [&](float inset) {
    return [=](Vec p) { return box_distance(p, width - inset, pad - inset, width - inset); };
  };
  for (float side : {-1.f, 1.f}) {
    paint(canvas, g.at + Vec{side * x, 0} + shade, pad, kShadow, 0.3f, 0.012f + 0.02f * g.z, finger(0));
  }
  const Vec palm = g.at + Vec{0, pad};
  paint(canvas, palm, x + width, kFinger, 1, 0,
        [&](Vec p) { return box_distance(p, x + width, 0.011f * grow, 0.008f); });
  for (float side : {-1.f, 1.f}) {
    paint(canvas, g.at + Vec{side * x, 0}, pad, kFinger, 1, 0, finger(0));
    paint(canvas, g.at + Vec{side * x, 0}, pad, kPad, 1, 0, finger(0.008f));
  }
}

void fill_rows(Canvas& canvas, Vec low, Vec high, Rgb colour) {
  const float scale = 1.f / canvas.pixel;
  const auto edge = [&](float v) { return std::clamp(int(v * scale + 1024.5f) - 1024, 0, canvas.size); };
  const float left = canvas.centre.x - canvas.half, top = canvas.centre.y + canvas.half;
  const int c0 = edge(low.x - left), c1 = edge(high.x - left);
  const int r0 = edge(top - high.y), r1 = edge(top - low.y);
  for (int r = r0; r < r1; ++r) {
    uint8_t* p = canvas.rgb.data() + (size_t(r) * size_t(canvas.size) + size_t(c0)) * 3;
    for (int c = c0; c < c1; ++c, p += 3) {
      p[0] = colour.r;
      p[1] = colour.g;
      p[2] = colour.b;
    }
  }
}

void draw_table(Canvas& canvas) {
  fill_rows(canvas, canvas.centre - Vec{canvas.half, canvas.half},
            canvas.centre + Vec{canvas.half, canvas.half}, kOutside);
  fill_rows(canvas, {0, 0}, {1, 1}, kTable);
  const auto line_x = [&](float x, float w, Rgb c) { fill_rows(canvas, {x - w, 0}, {x + w, 1}, c); };
  const auto line_y = [&](float y, float w, Rgb c) { fill_rows(canvas, {0, y - w}, {1, y + w}, c); };
  for (int i = 1; i < 10; ++i) {
    line_x(float(i) * 0.1f, 0.0035f, kGrid);
    line_y(float(i) * 0.1f, 0.0035f, kGrid);
  }
  for (float at : {0.2f, 0.8f}) {  // the strips that "to the left" and the like mean
    line_x(at, 0.006f, kStrip);
    line_y(at, 0.006f, kStrip);
  }
}

}  // namespace

Rgb rgb_of(Colour colour) {
  constexpr Rgb colours[] = {{214, 48, 42}, {46, 158, 68}, {36, 98, 214}, {240, 196, 32}, {146, 60, 176}};
  return colours[int(colour)];
}

void render(const World& world, Camera camera, int size, std::span<uint8_t> rgb) {
  const bool wrist = camera == Camera::wrist;
  const float half = wrist ? 0.2f + 0.06f * world.gripper.z : 0.5f;
  Canvas canvas{rgb, size, wrist ? world.gripper.at : Vec{0.5f, 0.5f}, half, 2 * half / float(size)};
  draw_table(canvas);
  for (const Zone& z : world.zones) draw_zone(canvas, z);
  std::array<int, kMaxBlocks> order{};
  for (int i = 0; i < world.block_count; ++i) order[size_t(i)] = i;
  std::stable_sort(order.begin(), order.begin() + world.block_count,
                   [&](int a, int b) { return world.blocks[size_t(a)].z < world.blocks[size_t(b)].z; });
  for (int i = 0; i < world.block_count; ++i) draw_block(canvas, world.blocks[size_t(order[size_t(i)])]);
  draw_gripper(canvas, world.gripper);
}

}  // namespace flashrt::tabletop
