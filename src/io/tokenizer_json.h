// BPE tokenizers from `tokenizer.json`: byte fallback (Llama-2, Gemma) and byte level (GPT-2, Llama-3, Qwen).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer_added.h"
#include "io/tokenizer_decode.h"
#include "io/tokenizer_normalize.h"
#include "io/tokenizer_split.h"
#include "io/tokenizer_tables.h"

namespace flashrt {

class JsonTokenizer {
 public:
  explicit JsonTokenizer(const JsonNode& root);

  // Appends to `ids`. `special`: special tokens in the text become ids instead of being text.
  void encode(std::string_view text, bool special, EncodeScratch& scratch, std::vector<int32_t>& ids) const;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  int vocab_size() const { return int(texts_.size()); }  // the highest id + 1: there may be holes
  std::string_view token(int id) const { return texts_[size_t(id)]; }
  int find(std::string_view token) const;
  bool is_special(int id) const;
  bool is_byte(int id) const { return decoder_.is_byte(texts_[size_t(id)]); }
  int unk() const { return unk_; }
  // Ids that the file's post-processor puts around one sequence.
  const std::vector<int32_t>& before() const { return before_; }
  const std::vector<int32_t>& after() const { return after_; }

 private:
  void read_model(const JsonNode& model);
  void read_vocab(const JsonNode& vocab);
  void read_merges(const JsonNode& merges);
  void read_added(const JsonNode& tokens);
  void read_post_processor(const JsonNode& node);
  void set_text(int32_t id, std::string_view text);
  void encode_word(std::string_view word, BpeMerger& merger, std::vector<int32_t>& ids) const;

  std::string source_;
  TextNormalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  TokenDecoder decoder_;
  AddedTokens added_;
  StringTable vocab_;               // the model's own tokens
  std::vector<std::string> texts_;  // by id, added tokens included
  PairTable merges_;
  std::vector<int32_t> before_, after_;
  std::vector<int32_t> bytes_;  // id of <0xNN>, −1 where missing
  int unk_ = -1;
  bool byte_fallback_ = false, fuse_unk_ = false, ignore_merges_ = false;
};

}  // namespace flashrt
