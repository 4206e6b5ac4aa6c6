// Two cameras over the tabletop, drawn by a small anti-aliased rasteriser: the whole table, and a view at the
// wrist.
#pragma once

#include <cstdint>
#include <span>

#include "tabletop/world.h"

namespace flashrt::tabletop {

inline constexpr int kImageSize = 112;  // pixels a side, what the policy sees: 8 × 8 patches of 14
enum class Camera : uint8_t { top, wrist };
inline constexpr int kCameras = 2;

inline size_t image_bytes(int size) { return size_t(size) * size_t(size) * 3; }

// Fills `rgb`, u8 [size, size, 3], row 0 at the top of the table.
void render(const World& world, Camera camera, int size, std::span<uint8_t> rgb);

struct Rgb {
  uint8_t r, g, b;
};
Rgb rgb_of(Colour colour);

}  // namespace flashrt::tabletop
