// Text ↔ token ids, from SentencePiece `tokenizer.model` or Hugging Face `tokenizer.json` files.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer_scratch.h"

namespace flashrt {

class Tokenizer {
 public:
  // A file, or a directory that holds `tokenizer.json`, `tokenizer.model`, or `vocab.json` and `merges.txt`.
  // A `tokenizer_config.json` beside it names the special tokens.
  static Tokenizer load(const std::string& path);
  // From memory; `source` names the bytes in messages.
  static Tokenizer from_sentencepiece(std::string_view bytes, const std::string& source);
  static Tokenizer from_json(std::string_view text, const std::string& source);

  // Plain text: no BOS, and the names of special tokens are text like any other.
  std::vector<int32_t> encode(std::string_view text) const;
  // The same, appended to `ids` and with the caller's working memory.
  void encode(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const;
  // Text of a chat template: special tokens in it become their ids.
  std::vector<int32_t> encode_with_special(std::string_view text) const;
  // Special and control tokens are left out unless asked for.
  std::string decode(std::span<const int32_t> ids, bool with_special = false) const;

  // −1 where the tokenizer has none.
  int bos() const;
  int eos() const;
  int pad() const;
  int unk() const;
  int id_of(std::string_view token) const;
  std::string_view token(int id) const;  // the raw text of an entry, such as "▁the" or "<0x0A>"
  bool is_special(int id) const;
  bool is_byte(int id) const;  // <0xNN>, one byte of a character
  // Whether decode without special tokens passes over it as if it were not there.
  bool is_skipped(int id) const;
  int vocab_size() const;
  // Ids that go before and after one sequence (BOS, EOS), as the files say.
  std::span<const int32_t> prefix() const;
  std::span<const int32_t> suffix() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace flashrt
