// Hash tables of a tokenizer: piece text → id, pair of ids → merge, and longest-prefix match over bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace flashrt {

// Strings with ids, both unique. Text is kept once, in one buffer; lookups are open-addressed.
class StringTable {
 public:
  // False when the text is already there.
  bool insert(std::string_view text, int32_t id) {
    if (entries_.size() * 2 >= slots_.size()) grow();
    uint32_t& slot = slots_[probe(text)];
    if (slot != 0) return false;
    entries_.push_back({uint32_t(bytes_.size()), uint32_t(text.size()), id});
    bytes_ += text;
    slot = uint32_t(entries_.size());
    if (text.size() > longest_) longest_ = text.size();
    return true;
  }
  // The id of `text`, or −1.
  int32_t find(std::string_view text) const {
    if (slots_.empty() || text.size() > longest_) return -1;
    const uint32_t slot = slots_[probe(text)];
    return slot == 0 ? -1 : entries_[slot - 1].id;
  }
  size_t size() const { return entries_.size(); }
  size_t longest() const { return longest_; }  // bytes of the longest text

 private:
  struct Entry {
    uint32_t begin, size;
    int32_t id;
  };
  std::string_view text_of(const Entry& e) const { return std::string_view(bytes_).substr(e.begin, e.size); }
  size_t probe(std::string_view text) const {
    const size_t mask = slots_.size() - 1;
    size_t at = std::hash<std::string_view>{}(text)&mask;
    while (slots_[at] != 0 && text_of(entries_[slots_[at] - 1]) != text) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    slots_.assign(slots_.empty() ? 64 : slots_.size() * 2, 0);
    for (size_t i = 0; i < entries_.size(); ++i) slots_[probe(text_of(entries_[i]))] = uint32_t(i + 1);
  }

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // 0 empty, else 1 + index of the entry
  size_t longest_ = 0;
};

// (a, b) → (rank, id); a later value for the same pair replaces the earlier one.
class PairTable {
 public:
  struct Value {
    uint32_t rank;
    int32_t id;
  };
  void set(uint32_t a, uint32_t b, Value value) {
    if (count_ * 2 >= slots_.size()) grow();
    Slot& slot = slots_[probe(key_of(a, b))];
    count_ += slot.key == kEmpty;
    slot = {key_of(a, b), value};
  }
  const Value* find(uint32_t a, uint32_t b) const {
    if (slots_.empty()) return nullptr;
    const Slot& slot = slots_[probe(key_of(a, b))];
    return slot.key == kEmpty ? nullptr : &slot.value;
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // (2³²−1, 2³²−1) is never a pair of ids
  struct Slot {
    uint64_t key = kEmpty;
    Value value{};
  };
  static uint64_t key_of(uint32_t a, uint32_t b) { return uint64_t{a} << 32 | b; }
  size_t probe(uint64_t key) const {
    uint64_t h = (key ^ key >> 29) * 0x9e3779b97f4a7c15ull;
    const size_t mask = slots_.size() - 1;
    size_t at = (h ^ h >> 32) & mask;
    while (slots_[at].key != kEmpty && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& s : old) {
      if (s.key != kEmpty) slots_[probe(s.key)] = s;
    }
  }

  std::vector<Slot> slots_;
  size_t count_ = 0;
};

// A set of byte strings with ids; finds the longest one that begins at a position.
class PrefixTrie {
 public:
  struct Match {
    size_t size = 0;  // bytes; 0 when nothing matches
    int32_t id = -1;
  };
  void insert(std::string_view text, int32_t id) {
    uint32_t node = 0;
    for (const char c : text) {
      const PairTable::Value* next = edges_.find(node, uint8_t(c));
      if (next == nullptr) {
        ids_.push_back(-1);
        edges_.set(node, uint8_t(c), {uint32_t(ids_.size() - 1), 0});
        node = uint32_t(ids_.size() - 1);
      } else {
        node = next->rank;
      }
    }
    ids_[node] = id;
    starts_[text.empty() ? 0 : uint8_t(text[0])] = true;
  }
  Match longest(std::string_view text, size_t at) const {
    Match best;
    if (at >= text.size() || !starts_[uint8_t(text[at])]) return best;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const PairTable::Value* next = edges_.find(node, uint8_t(text[i]));
      if (next == nullptr) break;
      node = next->rank;
      if (ids_[node] >= 0) best = {i + 1 - at, ids_[node]};
    }
    return best;
  }
  bool empty() const { return ids_.size() == 1; }

 private:
  PairTable edges_;               // (node, byte) → child, in `rank`
  std::vector<int32_t> ids_{-1};  // per node: id of the string that ends there
  bool starts_[256] = {};         // first bytes, for a quick no
};

}  // namespace flashrt
