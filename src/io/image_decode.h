// PNG and JPEG files → 8-bit RGB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace flashrt {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3], RGB
};

// Sides up to 8,192 and 32 megapixels. Alpha is dropped, 16-bit channels keep their high byte, grey and
// palettes become RGB. A cut or damaged image is an error that names `source`, never a half-filled picture.
Image decode_image(std::span<const std::byte> bytes, const std::string& source);
Image read_image(const std::string& path);

}  // namespace flashrt
