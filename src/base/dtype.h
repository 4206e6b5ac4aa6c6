// Element types of tensors and files, and exact conversions between them and float.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace flashrt {

enum class DType : uint8_t {
  f32,
  bf16,
  f16,
  i32,
  i64,
  u8,
  f64,
  i8,
  u32,
  boolean,
  i16,
  u16,
  u64,
  f8_e4m3,
  f8_e5m2
};

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
    case DType::u64: return 8;
    case DType::f32:
    case DType::i32:
    case DType::u32: return 4;
    case DType::bf16:
    case DType::f16:
    case DType::i16:
    case DType::u16: return 2;
    default: return 1;
  }
}

constexpr std::string_view name_of(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::i32: return "i32";
    case DType::i64: return "i64";
    case DType::u8: return "u8";
    case DType::f64: return "f64";
    case DType::i8: return "i8";
    case DType::u32: return "u32";
    case DType::boolean: return "bool";
    case DType::i16: return "i16";
    case DType::u16: return "u16";
    case DType::u64: return "u64";
    case DType::f8_e4m3: return "f8_e4m3";
    case DType::f8_e5m2: return "f8_e5m2";
  }
  return "?";
}

// bfloat16: the upper half of an f32; encode rounds to nearest even and keeps NaN quiet.
inline float bf16_to_f32(uint16_t v) { return std::bit_cast<float>(uint32_t{v} << 16); }
inline uint16_t f32_to_bf16(float f) {
  uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return uint16_t((u >> 16) | 0x40u);
  return uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// IEEE binary16; encode rounds to nearest even, overflows to infinity, keeps subnormals.
inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float m = float(mantissa) * 0x1p-24f;
    return sign ? -m : m;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}
inline uint16_t f32_to_f16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return uint16_t(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return uint16_t(sign | 0x7c00u);  // ≥ 65536 (65520 rounds up below)
  if (magnitude < 0x38800000u) {                                  // subnormal: 2^-24 units, nearest even
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    return uint16_t(sign | uint32_t(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return uint16_t(sign | ((rounded - 0x38000000u) >> 13));
}

// Reads element i of an array of a floating type; callers check the type first.
inline float load_float(const void* data, DType t, size_t i) {
  const auto* bytes = static_cast<const unsigned char*>(data) + i * size_of(t);
  switch (t) {
    case DType::f32: {
      float v;
      std::memcpy(&v, bytes, 4);
      return v;
    }
    case DType::f64: {
      double v;
      std::memcpy(&v, bytes, 8);
      return float(v);
    }
    case DType::bf16: {
      uint16_t v;
      std::memcpy(&v, bytes, 2);
      return bf16_to_f32(v);
    }
    case DType::f16: {
      uint16_t v;
      std::memcpy(&v, bytes, 2);
      return f16_to_f32(v);
    }
    default: return 0;
  }
}

inline void store_float(void* data, DType t, size_t i, float f) {
  auto* bytes = static_cast<unsigned char*>(data) + i * size_of(t);
  switch (t) {
    case DType::f32: std::memcpy(bytes, &f, 4); break;
    case DType::bf16: {
      uint16_t v = f32_to_bf16(f);
      std::memcpy(bytes, &v, 2);
      break;
    }
    case DType::f16: {
      uint16_t v = f32_to_f16(f);
      std::memcpy(bytes, &v, 2);
      break;
    }
    default: break;
  }
}

constexpr bool is_floating(DType t) {
  return t == DType::f32 || t == DType::bf16 || t == DType::f16 || t == DType::f64;
}

}  // namespace flashrt
