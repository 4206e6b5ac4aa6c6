// Greedy matching: the last place with the same four bytes, the hinted distances, and the previous distance.
#include "tabletop/compress.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace flashrt::tabletop {
namespace {

constexpr size_t kMinMatch = 5;
constexpr int kHashBits = 15;

uint32_t pixel(const uint8_t* p) { return uint32_t(p[0]) << 16 | uint32_t(p[1]) << 8 | p[2]; }

// Cell of the 32³ grid.
uint32_t cell(uint32_t c) { return (c >> 19 & 31) << 10 | (c >> 11 & 31) << 5 | (c >> 3 & 31); }

uint32_t hash4(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return (v * 2654435761u) >> (32 - kHashBits);
}

void put_varint(std::vector<uint8_t>& out, size_t v) {
  for (; v >= 128; v >>= 7) out.push_back(uint8_t(v | 128));
  out.push_back(uint8_t(v));
}

size_t get_varint(std::span<const uint8_t> in, size_t& at) {
  size_t v = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (at >= in.size()) throw std::runtime_error("compressed picture ends early");
    const uint8_t byte = in[at++];
    v |= size_t(byte & 127) << shift;
    if (byte < 128) return v;
  }
  throw std::runtime_error("compressed picture holds a bad number");
}

size_t match_length(std::span<const uint8_t> data, size_t from, size_t at) {
  size_t n = 0;
  while (at + n < data.size() && data[from + n] == data[at + n]) ++n;
  return n;
}

}  // namespace

void Palette::count(std::span<const uint8_t> rgb) {
  for (size_t i = 0; i + 2 < rgb.size(); i += 3) ++counts_[pixel(&rgb[i])];
}

void Palette::build() {
  struct Cell {
    uint32_t id = 0, total = 0, colour = 0, best = 0;
  };
  std::vector<Cell> cells(32768);
  for (const auto& [colour, n] : counts_) {
    Cell& c = cells[cell(colour)];
    c.id = cell(colour);
    c.total += n;
    if (n > c.best || (n == c.best && colour < c.colour)) c.best = n, c.colour = colour;
  }
  std::sort(cells.begin(), cells.end(), [](const Cell& a, const Cell& b) {
    return a.total != b.total ? a.total > b.total : a.id < b.id;
  });
  for (size_t i = 0; i < 256 && cells[i].total > 0; ++i) colours_.push_back(cells[i].colour);
}

uint8_t Palette::nearest(uint32_t c) {
  const auto [entry, fresh] = index_.try_emplace(c, 0);
  if (!fresh) return entry->second;
  int best = 1 << 30;
  for (size_t i = 0; i < colours_.size(); ++i) {
    int d = 0;
    for (int shift : {0, 8, 16}) {
      const int delta = int(c >> shift & 255) - int(colours_[i] >> shift & 255);
      d += delta * delta;
    }
    if (d < best) best = d, entry->second = uint8_t(i);
  }
  return entry->second;
}

std::vector<uint8_t> Palette::indices(std::span<const uint8_t> rgb) {
  std::vector<uint8_t> out(rgb.size() / 3);
  for (size_t i = 0; i < out.size(); ++i) out[i] = nearest(pixel(&rgb[3 * i]));
  return out;
}

std::vector<uint8_t> lz_pack(std::span<const uint8_t> data, std::span<const size_t> hints) {
  std::vector<uint8_t> out;
  std::vector<size_t> last(size_t(1) << kHashBits, SIZE_MAX), distances(hints.begin(), hints.end());
  distances.push_back(1);  // the previous match's
  size_t literal = 0, at = 0;
  while (at + 4 <= data.size()) {
    size_t best = 0, distance = 0;
    const auto offer = [&](size_t from) {
      const size_t n = match_length(data, from, at);
      if (n > best) best = n, distance = at - from;
    };
    for (size_t d : distances) {
      if (d <= at) offer(at - d);
    }
    size_t& slot = last[hash4(&data[at])];
    if (slot != SIZE_MAX) offer(slot);
    slot = at;
    if (best < kMinMatch) {
      ++at;
      continue;
    }
    put_varint(out, at - literal);
    out.insert(out.end(), data.begin() + ptrdiff_t(literal), data.begin() + ptrdiff_t(at));
    put_varint(out, best);
    put_varint(out, distance);
    distances.back() = distance;
    at += best;
    literal = at;
  }
  if (literal < data.size()) {
    put_varint(out, data.size() - literal);
    out.insert(out.end(), data.begin() + ptrdiff_t(literal), data.end());
  }
  return out;
}

std::vector<uint8_t> lz_unpack(std::span<const uint8_t> in, size_t size) {
  std::vector<uint8_t> out;
  for (size_t at = 0; out.size() < size;) {
    const size_t literals = get_varint(in, at);
    if (literals > in.size() - at || literals > size - out.size())
      throw std::runtime_error("bad literal run");
    out.insert(out.end(), in.begin() + ptrdiff_t(at), in.begin() + ptrdiff_t(at + literals));
    at += literals;
    if (out.size() == size) break;
    const size_t n = get_varint(in, at), distance = get_varint(in, at);
    if (distance == 0 || distance > out.size() || n > size - out.size())
      throw std::runtime_error("bad match");
    for (size_t i = 0; i < n; ++i) out.push_back(out[out.size() - distance]);
  }
  return out;
}

std::string base64(std::span<const uint8_t> bytes) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t v = 0;
    for (size_t k = 0; k < 3; ++k) v = v << 8 | (k < n ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) out += k <= n ? digits[v >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

uint32_t fnv1a(std::span<const uint8_t> bytes) {
  uint32_t h = 2166136261u;
  for (uint8_t b : bytes) h = (h ^ b) * 16777619u;
  return h;
}

}  // namespace flashrt::tabletop
