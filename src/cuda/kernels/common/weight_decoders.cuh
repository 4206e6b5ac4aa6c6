// How the matrix-vector kernel reads stored weights: one small struct per layout.
//
// A decoder describes one *step*: the columns of one row that a warp multiplies at once.
//   kGroups      groups of 8 columns per lane; a step covers 256·kGroups columns
//   kStepBytes   bytes of a step within a row, a multiple of 16; rows are steps back to back
//   kPadded      rows are stored as whole steps (what lies beyond k decodes to zeros); otherwise the last
//   step of
//                a row may be cut short, and lanes beyond it are not asked
//   Bits         what a lane keeps of a step between reading and multiplying
//   load(step, lane)       reads the lane's part of the step that begins at shared address `step`
//   decode(bits, g, w)     the 8 weights that multiply columns 256·g + 8·lane + (0 … 7) of the step
// So lane l's neighbours in a group are 8 columns apart: activations are read from shared memory without bank
// conflicts, and a packed layout puts the kGroups groups of a lane side by side. Scales that are rarer than a
// step ride at its end; a scale per row is LinearGemvParams::row_scale.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

// bf16 or f16, row-major as in the checkpoint.
template <class T>
struct HalfWeights {
  static constexpr int kGroups = 1, kStepBytes = 512;
  static constexpr bool kPadded = false;
  using Bits = uint4;
  __device__ static Bits load(uint32_t step, int lane) { return ld_shared_16(step + lane * 16); }
  __device__ static void decode(const Bits& bits, int, float (&w)[8]) { unpack8<T>(bits, w); }
};

}  // namespace flashrt
