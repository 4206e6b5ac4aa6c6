// Palette pictures and a byte-oriented LZ77, small enough that the page decodes them in a dozen lines of
// script.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace flashrt::tabletop {

// At most 256 colours for many pictures: the commonest colour of each occupied cell of a 32³ grid, commonest
// cells first. Pictures with up to 256 colours, all in different cells, are kept exactly.
class Palette {
 public:
  void count(std::span<const uint8_t> rgb);
  void build();
  std::vector<uint8_t> indices(std::span<const uint8_t> rgb);        // one byte a pixel
  const std::vector<uint32_t>& colours() const { return colours_; }  // 0xrrggbb

 private:
  uint8_t nearest(uint32_t colour);
  std::unordered_map<uint32_t, uint32_t> counts_;
  std::unordered_map<uint32_t, uint8_t> index_;
  std::vector<uint32_t> colours_;
};

// Stream of: varint literal count, the literals, varint match length, varint distance (absent after the last
// literals when the output is complete). Varints are 7 bits a byte, low first. `hints` are distances worth
// trying at every position: one row, one picture.
std::vector<uint8_t> lz_pack(std::span<const uint8_t> data, std::span<const size_t> hints);
std::vector<uint8_t> lz_unpack(std::span<const uint8_t> packed, size_t size);
std::string base64(std::span<const uint8_t> bytes);
uint32_t fnv1a(std::span<const uint8_t> bytes);

}  // namespace flashrt::tabletop
