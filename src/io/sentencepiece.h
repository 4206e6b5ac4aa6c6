// SentencePiece BPE models (`tokenizer.model`): the ModelProto file, and its encoder and decoder.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer_scratch.h"
#include "io/tokenizer_tables.h"

namespace flashrt {

class SentencePiece {
 public:
  // `source` names the bytes in messages.
  SentencePiece(std::string_view bytes, const std::string& source);

  void encode(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const;  // appends
  std::string decode(std::span<const int32_t> ids) const;

  int vocab_size() const { return int(pieces_.size()); }
  std::string_view piece(int id) const { return pieces_[size_t(id)].text; }
  bool is_control(int id) const { return pieces_[size_t(id)].type == Type::control; }
  bool is_byte(int id) const { return pieces_[size_t(id)].type == Type::byte; }
  int find(std::string_view piece) const;
  int unk() const { return unk_; }
  int bos() const { return bos_; }  // −1 when the model has none; so also eos and pad
  int eos() const { return eos_; }
  int pad() const { return pad_; }

 private:
  enum class Type : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::normal;
  };
  void read_model(std::string_view bytes);
  Piece read_piece(std::string_view bytes) const;
  void read_trainer(std::string_view bytes);
  void read_normalizer(std::string_view bytes);
  void index_pieces();
  void normalize(std::string_view text, std::string& out) const;

  std::string source_;
  std::vector<Piece> pieces_;
  StringTable matchable_;             // NORMAL, USER_DEFINED and UNUSED: what text can become
  StringTable reserved_;              // UNKNOWN, CONTROL and BYTE
  PrefixTrie user_defined_;           // matched before anything else, never merged
  std::array<int32_t, 256> bytes_{};  // id of <0xNN>
  uint64_t model_type_ = 1;           // 1 Unigram (the default of the format), 2 BPE
  int unk_ = -1, bos_ = 1, eos_ = 2, pad_ = -1;
  bool byte_fallback_ = false, add_dummy_prefix_ = true, remove_extra_whitespaces_ = true;
  bool escape_whitespaces_ = true, whitespace_as_suffix_ = false;
};

}  // namespace flashrt
