// Geometry of the persistent decoder stack.
#include "cuda/decoder_stack.h"

namespace flashrt {

StackExchange stack_exchange(int rows) {
  StackExchange e{};
  const size_t padded = rows <= 16 ? 16 : 64;
  const auto take = [&](size_t bytes_per_row) {
    const size_t begin = e.bytes;
    e.bytes += (bytes_per_row * padded + 255) / 256 * 256;
    return begin;
  };
  constexpr size_t kTiles = kStackWidth / 64;
  for (int i = 0; i < 2; ++i) {
    for (int norm = 0; norm < 2; ++norm) {
      e.normed[norm][i] = take(kStackWidth * 2);
      e.squares[norm][i] = take(kTiles * 4);
    }
    e.query[i] = take(kStackHeads * kStackHeadDim * 2);
    e.key[i] = take(kStackHeadDim * 2);
    e.value[i] = take(kStackHeadDim * 2);
    e.extent[i] = take(kStackHeads * kStackChunks * 4);
    e.attended[i] = take(kStackHeads * kStackHeadDim * 2);
    e.hidden[i] = take(kStackMlp * 2);
    e.partial_out[i] = take(kTiles * kStackSplits * 128);
    e.partial_down[i] = take(kTiles * kStackSplits * 128);
    e.weighted[i] = take(kStackHeads * kStackChunks * kStackHeadDim * 2);
  }
  e.rounds = take(16);
  return e;
}

bool encode_stack_layer(const StackMatrices& m, decltype(&cuTensorMapEncodeTiled) encode, StackLayer* layer) {
  using U = cuuint64_t;
  const auto map = [&](CUtensorMap* to, const void* data, cuuint32_t rank, const U* size, const U* strides,
                       const cuuint32_t* box) {
    const cuuint32_t steps[4] = {1, 1, 1, 1};
    return encode(to, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(data), size, strides, box,
                  steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  };
  const auto matrix = [&](CUtensorMap* to, const void* data, U rows, U columns) {
    const U size[] = {columns, rows}, strides[] = {columns * 2};
    const cuuint32_t box[] = {64, 64};
    return map(to, data, 2, size, strides, box);
  };
  // [groups][2 halves][8 rows][k]; groups beyond a half are never asked for.
  const auto halves = [&](CUtensorMap* to, const void* data, U rows, U columns, U half, unsigned groups) {
    const U size[] = {columns, 8, 2, rows / 8}, strides[] = {columns * 2, half * columns * 2, columns * 16};
    const cuuint32_t box[] = {64, 8, 2, groups};
    return map(to, data, 4, size, strides, box);
  };
  constexpr U kQkv = (kStackHeads + 2) * kStackHeadDim;
  return halves(&layer->qkv, m.qkv, kQkv, kStackWidth, kStackHeadDim / 2, 2) &&
         halves(&layer->gate_up, m.gate_up, 2 * kStackMlp, kStackWidth, kStackMlp, 4) &&
         matrix(&layer->out, m.out, kStackWidth, kStackHeads * kStackHeadDim) &&
         matrix(&layer->down, m.down, kStackWidth, kStackMlp) &&
         matrix(&layer->keys, m.keys, U(m.capacity), kStackHeadDim) &&
         matrix(&layer->values, m.values, U(m.capacity), kStackHeadDim);
}

StackLaunch plan_decoder_stack(int rows) {
  constexpr unsigned kShared = 227 * 1024;
  constexpr int kStages = (kShared - kStackRestBytes - kStackBoxBytes) / kStackStageBytes;
  return {.kernel = rows <= 16 ? "decoder_stack_rows16" : "decoder_stack_rows64",
          .grid = kStackBlocks,
          .block = 384,
          .shared_bytes = kStages * kStackStageBytes + kStackBoxBytes + kStackRestBytes,
          .stages = kStages,
          .pace = rows <= 16 ? 1500 : 1750};  // measured: tune/notes_decoder_stack.md
}

}  // namespace flashrt
