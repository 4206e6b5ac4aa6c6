// Who reads what on a fused tape: for finders of stretches that one launch computes.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "tape/program.h"

namespace flashrt::cuda {

class LineReaders {
 public:
  explicit LineReaders(const Program& program) : readers_(program.tensors.size()) {
    for (size_t i = 0; i < program.lines.size(); ++i) {
      for (int id : program.lines[i].in) {
        if (id >= 0) readers_[size_t(id)].push_back(i);
      }
    }
    for (const auto& [name, id] : program.outputs) readers_[size_t(id)].push_back(program.lines.size());
  }

  // The lines that read tensor `id`, ascending; the number of lines where it is an output of the program.
  const std::vector<size_t>& of(int id) const { return readers_[size_t(id)]; }
  bool all_within(int id, size_t first, size_t end) const {
    return std::ranges::all_of(of(id), [&](size_t i) { return i >= first && i < end; });
  }

 private:
  std::vector<std::vector<size_t>> readers_;  // by tensor id
};

// Whether a line has none of these operands.
inline bool lacks(const Line& line, std::initializer_list<int> operands) {
  return std::ranges::none_of(operands, [&](int i) { return line.has(size_t(i)); });
}

}  // namespace flashrt::cuda
