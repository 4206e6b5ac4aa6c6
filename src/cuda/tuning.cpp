// Parses the embedded tables once.
#include "cuda/tuning.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "base/error.h"

namespace flashrt::cuda {

namespace {

struct Table {
  std::string_view device, text;
};
constexpr Table kTables[] = {
    {
        "NVIDIA H200",
#include "tune_h200.inc"
    },
};

std::string_view next_field(std::string_view& line, char separator) {
  const size_t end = std::min(line.find(separator), line.size());
  const std::string_view field = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return field;
}

template <class T, size_t N>
void parse_numbers(std::string_view text, std::array<T, N>& out) {
  for (size_t i = 0; i < N && !text.empty(); ++i) {
    const std::string_view field = next_field(text, ',');
    check(std::from_chars(field.data(), field.data() + field.size(), out[i]).ec == std::errc{},
          "tuning table: a number");
  }
}

std::vector<TunedRow> parse(std::string_view text) {
  std::vector<TunedRow> rows;
  while (!text.empty()) {
    std::string_view line = next_field(text, '\n');
    if (line.empty() || line[0] == '#') continue;
    TunedRow row{.op = next_field(line, '\t')};
    row.implementation = next_field(line, '\t');
    row.variant = next_field(line, '\t');
    parse_numbers(next_field(line, '\t'), row.shape);
    parse_numbers(next_field(line, '\t'), row.tactic);
    rows.push_back(row);
  }
  return rows;
}

}  // namespace

std::vector<TunedRow>& trial_rows() {
  static std::vector<TunedRow> rows;
  return rows;
}

std::span<const TunedRow> tuned_rows(std::string_view device) {
  static const std::vector<TunedRow> rows = parse(kTables[0].text);
  return device == kTables[0].device ? rows : std::span<const TunedRow>{};
}

const TunedRow* find_tuned(std::string_view device, std::string_view op, std::string_view implementation,
                           std::string_view variant, std::span<const int64_t> shape) {
  const auto matches = [&](const TunedRow& row, size_t first) {
    return row.op == op && row.implementation == implementation && row.variant == variant &&
           std::equal(shape.begin() + ptrdiff_t(first), shape.end(), row.shape.begin() + ptrdiff_t(first));
  };
  for (const TunedRow& row : trial_rows()) {
    if (matches(row, 0)) return &row;
  }
  const TunedRow* best = nullptr;
  for (const TunedRow& row : tuned_rows(device)) {
    if (!matches(row, 1)) continue;
    if (std::abs(row.shape[0] - shape[0]) * 16 > shape[0]) continue;  // tiles of another number of rows
    if (best == nullptr || std::abs(row.shape[0] - shape[0]) < std::abs(best->shape[0] - shape[0]))
      best = &row;
  }
  return best;
}

}  // namespace flashrt::cuda
