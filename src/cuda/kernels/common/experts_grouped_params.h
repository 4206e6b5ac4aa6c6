// Launch parameters of the grouped mixture of experts: many rows, sorted by expert, each expert's weights
// read once.
#pragma once
#include "cuda/kernels/common/row_params.h"

namespace flashrt {

constexpr int kExpertRows = 64;      // rows of a tile
constexpr int kExpertColumns = 128;  // rows of w of a tile
constexpr int kExpertStages = 4;     // of its ring
constexpr int kMostExperts = 256;

// Slot row · used + i is the row's i-th choice; sorted by expert, slots are places.
struct ExpertTile {
  int expert, first, count;  // places first … first + count − 1; count 0: none
};

struct ExpertsGroupedParams {
  Source x, gate_up, down;  // [rows, width], [experts·2·hidden, width], [experts·width, hidden]
  const float* router;      // [rows, experts]
  int* chosen;              // [slots]
  float* shares;            // [slots]
  int *slots, *places;      // [slots]: of each place its slot, of each slot its place
  ExpertTile* tiles;        // [most_tiles]
  Target hidden_values;     // [slots, hidden] by place
  float* parts;             // [slots, width] by place: what an expert adds to its row, before its share
  Target y;                 // [rows, width]
  int rows, width, hidden, experts, used, most_tiles;
  bool normalise;
  PointFunction function;
};

}  // namespace flashrt
