// Implementations of the mixture of experts.
#include "ops/experts.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "cuda/kernels/common/experts_grouped_params.h"
#include "cuda/kernels/common/experts_params.h"
#include "cuda/linear_gemv.h"
#include "cuda/operands.h"
#include "cuda/point_function.h"
#include "cuda/tables.h"

namespace flashrt::cuda {

namespace {

constexpr size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

struct Sizes {
  int64_t rows, width, hidden, experts, used;
  explicit Sizes(const Problem& p)
      : rows(p.in(0).rows),
        width(p.in(0).cols),
        hidden(p.in(3).cols),
        experts(p.in(1).cols),
        used(p.line.attrs<ExpertsAttrs>().used) {}
  size_t slots() const { return size_t(rows * used); }
};

// Workspace: chosen, shares, hidden values (f32 holds either form).
size_t workspace(const Problem& p) {
  const Sizes s(p);
  return 2 * aligned(s.slots() * 4) + s.slots() * size_t(s.hidden) * 4;
}
std::byte* chosen_at(const Problem& p) { return static_cast<std::byte*>(p.workspace); }
std::byte* shares_at(const Problem& p) { return chosen_at(p) + aligned(Sizes(p).slots() * 4); }
std::byte* hidden_at(const Problem& p) { return shares_at(p) + aligned(Sizes(p).slots() * 4); }

LinearGemvParams gemv(const Problem& p, int n, int k, size_t weight) {
  const Sizes s(p);
  LinearGemvParams g{};
  g.row_bytes = p.in_stride(weight) * 2;
  g.m = 1, g.n = n, g.k = k;
  g.experts = int(s.experts), g.used = int(s.used);
  g.normalise = p.line.attrs<ExpertsAttrs>().normalise != 0;
  return g;
}
LinearGemvParams gate_up(const Problem& p) {
  const Sizes s(p);
  LinearGemvParams g = gemv(p, int(2 * s.used * s.hidden), int(s.width), 2);
  g.expert_units = int(s.hidden), g.expert_rows = int(2 * s.hidden);
  g.function = point_function_of(p.line.attrs<ExpertsAttrs>().activation);
  g.x_stride = p.in_stride(0), g.y_stride = s.used * s.hidden;
  return g;
}
LinearGemvParams down(const Problem& p) {
  const Sizes s(p);
  LinearGemvParams g = gemv(p, int(s.width), int(s.used * s.hidden), 3);
  g.expert_rows = int(s.width);
  g.x_stride = s.used * s.hidden, g.y_stride = s.width;
  return g;
}

bool fits_gemv(const Problem& p) {
  const Sizes s(p);
  const DType type = p.in_type(0);
  if (p.device.sm / 10 != 9 || !is_half(type) || p.in_type(2) != type || p.in_type(3) != type ||
      p.out_type(0) != type)
    return false;
  if (s.experts > 256 || s.used > 32 || s.rows > 65535 || !packed(s.width, s.hidden)) return false;
  if (s.hidden > 16 * 256) return false;  // an expert's columns are one chunk
  LinearGemvParams first = gate_up(p), second = down(p);
  constexpr int kLargestShared = 226 * 1024;
  return plan_linear_gemv(first, {}, 1) <= kLargestShared &&
         plan_linear_gemv(second, {}, 1, int(s.hidden)) <= kLargestShared;
}

void launch_gemv(const Problem& p, std::vector<Launch>& out) {
  const Sizes s(p);
  const unsigned rows = unsigned(s.rows), blocks = unsigned(p.device.processors);
  LinearGemvParams first = gate_up(p), second = down(p);
  const int shared_first = plan_linear_gemv(first, {}, 1),
            shared_second = plan_linear_gemv(second, {}, 1, int(s.hidden));
  first.weights = p.in_data<const uint8_t>(2), second.weights = p.in_data<const uint8_t>(3);
  first.router = p.in_data<const float>(1);
  first.chosen = second.chosen = reinterpret_cast<int*>(chosen_at(p));
  first.x = p.in_data<const void>(0), second.x = first.y = hidden_at(p);
  second.y = p.out_data<void>(0);
  const std::string type(name_of(p.in_type(0)));
  out.push_back(Launch::of(fmt::format("experts_gemv_{}_gate_up", type),
                           dim3(std::min(blocks, unsigned(first.units)), rows), kGemvBlock, first,
                           unsigned(shared_first)));
  out.push_back(Launch::of(fmt::format("experts_gemv_{}_down", type),
                           dim3(std::min(blocks, unsigned(second.units)), rows), kGemvBlock, second,
                           unsigned(shared_second)));
}

bool fits_portable(const Problem& p) { return elements_only(p); }

void launch_portable(const Problem& p, std::vector<Launch>& out) {
  const Sizes s(p);
  const ExpertsParams params{.x = source(p, 0),
                             .gate_up = source(p, 2),
                             .down = source(p, 3),
                             .router = p.in_data<const float>(1),
                             .chosen = reinterpret_cast<int*>(chosen_at(p)),
                             .shares = reinterpret_cast<float*>(shares_at(p)),
                             .hidden_values = reinterpret_cast<float*>(hidden_at(p)),
                             .y = target(p, 0),
                             .rows = int(s.rows),
                             .width = int(s.width),
                             .hidden = int(s.hidden),
                             .experts = int(s.experts),
                             .used = int(s.used),
                             .normalise = p.line.attrs<ExpertsAttrs>().normalise != 0,
                             .function = point_function_of(p.line.attrs<ExpertsAttrs>().activation)};
  out.push_back(Launch::of("experts_choose", grid_of(s.rows, 32), 32, params));
  out.push_back(Launch::of("experts_gate_up", grid_of(int64_t(s.slots()) * s.hidden * 32), 256, params));
  out.push_back(Launch::of("experts_down", grid_of(s.rows * s.width * 32), 256, params));
}

// Many rows: an expert's matrices are read once for all rows that chose it.
constexpr int64_t kFewRows = 4;  // up to which the experts of a row are streamed for it alone

int64_t most_tiles(const Sizes& s) {
  return int64_t(s.slots()) / kExpertRows + std::min(s.experts, int64_t(s.slots()));
}
// In the order of the workspace.
struct GroupedBytes {
  size_t numbers, tiles, hidden, parts;
  explicit GroupedBytes(const Sizes& s)
      : numbers(aligned(s.slots() * 4)),
        tiles(aligned(size_t(most_tiles(s)) * sizeof(ExpertTile))),
        hidden(aligned(s.slots() * size_t(s.hidden) * 2)),
        parts(s.slots() * size_t(s.width) * 4) {}
};
size_t grouped_workspace(const Problem& p) {
  const GroupedBytes bytes{Sizes(p)};
  return 4 * bytes.numbers + bytes.tiles + bytes.hidden + bytes.parts;
}

bool fits_grouped(const Problem& p) {
  const Sizes s(p);
  const DType type = p.in_type(0);
  return s.rows > kFewRows && is_half(type) && p.in_type(2) == type && p.in_type(3) == type &&
         is_element(p.out_type(0)) && s.experts <= kMostExperts && s.used <= 32 && packed(s.width, s.hidden);
}

void launch_grouped(const Problem& p, std::vector<Launch>& out) {
  const Sizes s(p);
  const GroupedBytes bytes(s);
  auto* at = static_cast<std::byte*>(p.workspace);
  const auto take = [&](size_t size) { return std::exchange(at, at + size); };
  ExpertsGroupedParams params{.x = source(p, 0),
                              .gate_up = source(p, 2),
                              .down = source(p, 3),
                              .router = p.in_data<const float>(1),
                              .chosen = reinterpret_cast<int*>(take(bytes.numbers)),
                              .shares = reinterpret_cast<float*>(take(bytes.numbers)),
                              .slots = reinterpret_cast<int*>(take(bytes.numbers)),
                              .places = reinterpret_cast<int*>(take(bytes.numbers)),
                              .tiles = reinterpret_cast<ExpertTile*>(take(bytes.tiles)),
                              .hidden_values = {take(bytes.hidden), s.hidden, element_of(p.in_type(0))},
                              .parts = reinterpret_cast<float*>(take(bytes.parts)),
                              .y = target(p, 0),
                              .rows = int(s.rows),
                              .width = int(s.width),
                              .hidden = int(s.hidden),
                              .experts = int(s.experts),
                              .used = int(s.used),
                              .most_tiles = int(most_tiles(s)),
                              .normalise = p.line.attrs<ExpertsAttrs>().normalise != 0,
                              .function = point_function_of(p.line.attrs<ExpertsAttrs>().activation)};
  constexpr unsigned kThreads = 128, kShared = kExpertStages * (kExpertRows + kExpertColumns) * 128;
  const auto tiles = unsigned(params.most_tiles);
  const auto columns = [](int64_t n, int64_t of) { return unsigned((n + of - 1) / of); };
  const std::string type(name_of(p.in_type(0)));
  out.push_back(Launch::of("experts_route", grid_of(s.rows * 32, kThreads), kThreads, params));
  out.push_back(Launch::of("experts_sort", 1, 1024, params));
  out.push_back(Launch::of("experts_grouped_gate_up_" + type,
                           dim3(tiles, columns(s.hidden, kExpertColumns / 2)), kThreads, params, kShared));
  out.push_back(Launch::of("experts_grouped_down_" + type, dim3(tiles, columns(s.width, kExpertColumns)),
                           kThreads, params, kShared));
  out.push_back(Launch::of("experts_combine", grid_of(s.rows * s.width / 2), 256, params));
}

constexpr Implementation kTable[] = {
    {"grouped", fits_grouped, launch_grouped, grouped_workspace, true},
    {"gemv_sm90", fits_gemv, launch_gemv, workspace, true},
    {"portable", fits_portable, launch_portable, workspace, true},
};

}  // namespace

std::span<const Implementation> experts_table() { return kTable; }

}  // namespace flashrt::cuda
