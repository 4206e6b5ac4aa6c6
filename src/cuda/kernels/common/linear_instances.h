// The compiled instances of the wgmma linear kernel: X(row map, weight rows, tokens) of a block. Each is one
// name in the module, linear_sm90_bf16_<map>_r<rows>_n<tokens>, and one candidate of linear_candidates.
#pragma once

// clang-format off
#define FLASHRT_LINEAR_INSTANCES(X)                                                                  \
  X(plain, 64, 64)   X(plain, 64, 72)   X(plain, 64, 80)   X(plain, 64, 88)   X(plain, 64, 96)       \
  X(plain, 64, 104)  X(plain, 64, 128)                                                               \
  X(plain, 128, 64)  X(plain, 128, 80)  X(plain, 128, 88)  X(plain, 128, 96)  X(plain, 128, 112)     \
  X(plain, 128, 128) X(plain, 128, 136) X(plain, 128, 144) X(plain, 128, 152) X(plain, 128, 168)     \
  X(plain, 128, 176) X(plain, 128, 184) X(plain, 128, 192) X(plain, 128, 208) X(plain, 128, 232)     \
  X(plain, 128, 240) X(plain, 128, 248) X(plain, 128, 256)                                           \
  X(plain, 192, 88)  X(plain, 192, 104) X(plain, 192, 112) X(plain, 192, 128) X(plain, 192, 160)     \
  X(plain, 256, 112) X(plain, 256, 136) X(plain, 256, 152) X(plain, 256, 168) X(plain, 256, 176)     \
  X(pair, 128, 136)  X(pair, 128, 152)  X(pair, 128, 176)  X(pair, 128, 192)  X(pair, 128, 208)      \
  X(pair, 128, 232)  X(pair, 128, 240)  X(pair, 128, 248)  X(pair, 128, 256)                         \
  X(pair, 256, 136)  X(pair, 256, 144)  X(pair, 256, 152)  X(pair, 256, 168)  X(pair, 256, 176)      \
  X(heads, 64, 88)   X(heads, 64, 136)   \
  X(heads, 128, 88)  X(heads, 128, 96)  X(heads, 128, 120) X(heads, 128, 128) X(heads, 128, 136)     \
  X(heads, 128, 152) X(heads, 128, 168) X(heads, 128, 176) X(heads, 128, 192) X(heads, 128, 232)     \
  X(heads, 128, 240) X(heads, 128, 248)
// clang-format on
