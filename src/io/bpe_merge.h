// The merge loop shared by all BPE tokenizers: best adjacent pair first, leftmost among equals, O(n log n).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace flashrt {

// A run of input bytes that is one token so far. Neighbours are linked; a merged-away symbol has size 0.
struct BpeSymbol {
  uint32_t begin = 0, size = 0;
  int32_t id = -1;
  int32_t prev = -1, next = -1;
  bool frozen = false;  // never merged (SentencePiece's user-defined pieces)
};

struct BpeMerge {
  float order;  // lower merges first: the rank, or minus the score; ranks stay exact below 2²⁴
  int32_t id;   // the merged token
};

class BpeMerger {
 public:
  std::vector<BpeSymbol> symbols;  // set by the caller in order of the text; what is left after merge()

  // Merges until `find(left, right) -> std::optional<BpeMerge>` knows no more pair.
  template <class Find>
  void merge(Find&& find);

 private:
  struct Candidate {
    float order;
    int32_t left, id;
    uint32_t size;  // of the pair when it was pushed; differs from the present size when outdated
  };
  static bool after(const Candidate& a, const Candidate& b) {
    return a.order != b.order ? a.order > b.order : a.left > b.left;
  }
  template <class Find>
  void push(int32_t left, Find&& find);

  std::vector<Candidate> heap_;
};

template <class Find>
void BpeMerger::push(int32_t left, Find&& find) {
  if (left < 0 || symbols[size_t(left)].next < 0) return;
  const BpeSymbol &a = symbols[size_t(left)], &b = symbols[size_t(a.next)];
  if (a.frozen || b.frozen) return;
  if (const std::optional<BpeMerge> m = find(a, b)) {
    heap_.push_back({m->order, left, m->id, a.size + b.size});
    std::push_heap(heap_.begin(), heap_.end(), after);
  }
}

template <class Find>
void BpeMerger::merge(Find&& find) {
  const auto count = int32_t(symbols.size());
  heap_.clear();
  heap_.reserve(symbols.size() * 2);  // every merge takes one and adds at most two
  for (int32_t i = 0; i < count; ++i) {
    symbols[size_t(i)].prev = i - 1;
    symbols[size_t(i)].next = i + 1 < count ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < count; ++i) push(i, find);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), after);
    const Candidate top = heap_.back();
    heap_.pop_back();
    BpeSymbol& left = symbols[size_t(top.left)];
    if (left.size == 0 || left.next < 0) continue;
    BpeSymbol& right = symbols[size_t(left.next)];
    if (left.size + right.size != top.size) continue;
    left.size = top.size;
    left.id = top.id;
    left.next = right.next;
    right.size = 0;
    if (left.next >= 0) symbols[size_t(left.next)].prev = top.left;
    push(left.prev, find);
    push(top.left, find);
  }
  std::erase_if(symbols, [](const BpeSymbol& s) { return s.size == 0; });
}

}  // namespace flashrt
