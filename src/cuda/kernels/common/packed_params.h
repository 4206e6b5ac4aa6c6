// How packed weights lie on the device, and what the kernels that read them are given; plain data, shared by
// host and device code.
//
// Rows of w are taken 16 at a time: a tile is rows 8 T … 8 T + 7 and as many from n / 2 + 8 T on, so that a
// gated pair meets in one tile. A tile is stored as steps of 128 columns, one after the other: two groups of
// 64 columns of codes, then the step's scales. Within a group lane l = 4 g + t of the warp that multiplies it
// holds rows g and g + 8 and four runs of four columns, in the order in which m16n8k16 takes them:
// run j of lane t is columns 16 j + 4 t … + 3; of nvfp4 16 t + 4 j … + 3, so that a lane's runs share their
// scale.
//
// 8 bits: 2 × 16 bytes per lane, run by run: columns 0 1, then 2 3; bytes (row g, g + 8) of the first, of the
// second.
//
// int4: a word per run; its half h holds columns h and 2 + h: nibble a = row g's and g + 8's of the first,
// then the second. After the codes, per run of 128 (int4) or 32 columns (int4_fine), row by row (g, g + 8),
// scale and bf16(zero), which is 16 times larger for rows g + 8.
//
// nvfp4: a word per run as for int4, the bits of code a at e2m1_place. After the codes, 4 bytes per lane: the
// scales of rows g, g + 8 of the first group, of the second.
//
// Behind all tiles: f32 per row of the tiles, what the row's sum is multiplied with (all but int4), and for
// nvfp4 f32 per row, the matrix's own scale, negative where it divides.
#pragma once
#include <cstdint>

#include "cuda/kernels/common/row_params.h"

namespace flashrt {

enum class PackedKind : int { fp8, int8, int4, int4_fine, nvfp4 };

constexpr int kPackedColumns = 128, kPackedRows = 16;      // of a step
constexpr int kPackedWarps = 8, kPackedBuffers = 2;        // warps that multiply; tiles whose sums may wait
constexpr int kPackedPartials = 128, kPackedMostRows = 8;  // floats of a warp's sums; rows of x

constexpr bool is_int4(PackedKind kind) { return kind == PackedKind::int4 || kind == PackedKind::int4_fine; }
constexpr bool is_wide(PackedKind kind) { return kind == PackedKind::fp8 || kind == PackedKind::int8; }
constexpr int packed_code_bytes(PackedKind kind) { return is_wide(kind) ? 2048 : 1024; }
constexpr int packed_step_bytes(PackedKind kind) {
  const int scales = kind == PackedKind::int4        ? 64
                     : kind == PackedKind::int4_fine ? 256
                     : kind == PackedKind::nvfp4     ? 128
                                                     : 0;
  return packed_code_bytes(kind) + scales;
}

// Where bit i of E2M1 code a lies in a half of its word (mantissa, exponent, exponent, sign); from 16 on in
// the other half. A mask, or one shift and a mask, make codes 0 … 2 a bf16 that is 2^126 too small; two
// shifts code 3.
constexpr int e2m1_place(int a, int i) {
  const uint32_t places = a == 0 ? 0x0f080706u : a == 1 ? 0x09020100u : a == 2 ? 0x150e0d0cu : 0x0b04030au;
  return int(places >> (8 * i) & 0xffu);
}

struct PackedMatrix {
  const uint8_t* tiles;
  const float* row_scale;   // [16·tiles], null for int4
  const float* row_global;  // [16·tiles], nvfp4
  int n, k, steps;          // steps of a tile
  bool bf16_scales;         // int4: else f16
};

// y = residual + gate · activation(rstd · (x·(1 + norm_scale)) · wᵀ + bias) for at most 8 rows of x, in bf16.
struct LinearPackedParams {
  PackedMatrix w;
  const void* x;     // [m, ≥ k]
  int64_t x_stride;  // elements, a multiple of 8
  int m, tiles;
  int trigger;              // when the successor may start, see PackedTactic
  int chunk_steps, stages;  // steps of a load; loads in flight
  // In shared memory, the ring at 0: x, Σx of the groups, 128 bytes of zeros, sums of the warps, Σx² and Σx
  // of each.
  int x_at, x_row_bytes, sums_at, zeros_at, partials_at, squares_at, barriers_at;
  const float* norm_scale;  // [k], or null: no norm
  float eps, inv_k;
  const float* bias;     // [n] or null
  const float* gate;     // [columns of y] or null
  const void* residual;  // bf16, or null; may alias y
  int64_t residual_stride;
  PointFunction function;
  bool pair, y_f32;
  void* y;
  int64_t y_stride;
};

struct UnpackParams {
  PackedMatrix w;
  Target y;  // [n, k]
  int tiles;
};

}  // namespace flashrt
