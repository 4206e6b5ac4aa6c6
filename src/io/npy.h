// .npy files (numpy format 1.0) of f32 arrays, little endian, C order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace flashrt {

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;  // row-major
};

// Strict: versions 1 to 3, '<f4', C order, and exactly as many bytes as the shape needs. Never a pickle.
NpyArray parse_npy(std::span<const std::byte> bytes, const std::string& source);
NpyArray read_npy(const std::string& path);

std::string npy_bytes(std::span<const int64_t> shape, std::span<const float> values);
void write_npy(const std::string& path, std::span<const int64_t> shape, std::span<const float> values);

}  // namespace flashrt
