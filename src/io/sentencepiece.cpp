// The loader: fields of google/sentencepiece's sentencepiece_model.proto, decoded by hand and checked.
#include "io/sentencepiece.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace flashrt {

namespace {

constexpr size_t kMaxPieces = 1'000'000, kMaxPieceBytes = 64 << 10, kMaxUserDefinedBytes = 4 << 20;

// Reads one protobuf message: calls next() until false, then looks at `field` and takes the value it wants.
class Message {
 public:
  Message(std::string_view bytes, const std::string& source, const char* name)
      : bytes_(bytes), source_(source), name_(name) {}

  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    field = uint32_t(tag >> 3);
    type_ = int(tag & 7);
    if (tag >> 3 == 0 || tag >> 32 != 0) broken("an invalid field number");
    switch (type_) {
      case 0: number_ = varint(); break;
      case 1: data_ = take(8); break;
      case 2: data_ = take(varint()); break;
      case 5: data_ = take(4); break;
      default: broken("an unsupported wire type");
    }
    return true;
  }
  std::string_view bytes() const { return expect(2), data_; }
  uint64_t number() const { return expect(0), number_; }
  int32_t id() const {  // int32, negative as ten bytes
    const auto v = int64_t(number());
    if (v < -1 || v >= int64_t(kMaxPieces)) {
      fail("{}: {} field {}: expected an id from -1 to {}, found {}", source_, name_, field, kMaxPieces - 1,
           v);
    }
    return int32_t(v);
  }
  float real() const {
    expect(5);
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) bits |= uint32_t(uint8_t(data_[size_t(i)])) << 8 * i;
    return std::bit_cast<float>(bits);
  }

  uint32_t field = 0;

 private:
  [[noreturn]] void broken(const char* what) const {
    fail("{}: not a SentencePiece model: {} with {} at byte {} of {}", source_, name_, what, at_,
         bytes_.size());
  }
  void expect(int type) const {
    if (type_ == type) return;
    fail("{}: {} field {}: expected wire type {}, found {}", source_, name_, field, type, type_);
  }
  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) broken("a cut number");
      const auto b = uint8_t(bytes_[at_++]);
      v |= uint64_t(b & 0x7f) << shift;
      if (b < 0x80) return v;
    }
    broken("a number of more than 64 bits");
  }
  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) broken("a length beyond its end");
    at_ += size_t(size);
    return bytes_.substr(at_ - size_t(size), size_t(size));
  }

  std::string_view bytes_, data_;
  const std::string& source_;
  const char* name_;
  size_t at_ = 0;
  int type_ = 0;
  uint64_t number_ = 0;
};

// "<0xNN>", exactly two upper-case hexadecimal digits → 0…255, else −1.
int byte_of(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = digit(piece[3]), low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

SentencePiece::SentencePiece(std::string_view bytes, const std::string& source) : source_(source) {
  read_model(bytes);
  index_pieces();
}

void SentencePiece::read_model(std::string_view bytes) {
  Message model(bytes, source_, "ModelProto");
  while (model.next()) {
    if (model.field == 1) {
      if (pieces_.size() == kMaxPieces) fail("{}: more than {} pieces", source_, kMaxPieces);
      pieces_.push_back(read_piece(model.bytes()));
    } else if (model.field == 2) {
      read_trainer(model.bytes());
    } else if (model.field == 3) {
      read_normalizer(model.bytes());
    } else if (model.field == 5 && !model.bytes().empty()) {  // DenormalizerSpec: used by no known BPE model
      fail("{}: a denormaliser is not supported", source_);
    }
  }
  if (pieces_.empty()) fail("{}: not a SentencePiece model: it has no pieces", source_);
  if (model_type_ != 2) {
    constexpr const char* kNames[] = {"?", "Unigram", "BPE", "word", "character"};
    fail("{}: expected a BPE model (type 2), found type {} ({})", source_, model_type_,
         kNames[model_type_ < 5 ? model_type_ : 0]);
  }
}

SentencePiece::Piece SentencePiece::read_piece(std::string_view bytes) const {
  Piece piece;
  const size_t index = pieces_.size();
  Message m(bytes, source_, "SentencePiece");
  while (m.next()) {
    if (m.field == 1) piece.text = m.bytes();
    if (m.field == 2) piece.score = m.real();
    if (m.field == 3) {
      if (m.number() < 1 || m.number() > 6) {
        fail("{}: piece {}: expected a type from 1 to 6, found {}", source_, index, m.number());
      }
      piece.type = Type(m.number());
    }
  }
  if (piece.text.empty()) fail("{}: piece {}: its text is empty", source_, index);
  if (piece.text.size() > kMaxPieceBytes) {
    fail("{}: piece {}: {} bytes, more than the limit of {}", source_, index, piece.text.size(),
         kMaxPieceBytes);
  }
  if (!is_valid_utf8(piece.text)) fail("{}: piece {}: its text is not UTF-8", source_, index);
  if (!std::isfinite(piece.score)) fail("{}: piece {}: its score is not finite", source_, index);
  return piece;
}

void SentencePiece::read_trainer(std::string_view bytes) {
  Message m(bytes, source_, "TrainerSpec");
  while (m.next()) {
    switch (m.field) {
      case 3: model_type_ = m.number(); break;
      case 24: whitespace_as_suffix_ = m.number() != 0; break;
      case 35: byte_fallback_ = m.number() != 0; break;
      case 41: bos_ = m.id(); break;
      case 42: eos_ = m.id(); break;
      case 43: pad_ = m.id(); break;
    }
  }
}

void SentencePiece::read_normalizer(std::string_view bytes) {
  Message m(bytes, source_, "NormalizerSpec");
  while (m.next()) {
    switch (m.field) {
      case 2:
        if (!m.bytes().empty()) {
          fail("{}: the normaliser has a character map (such as nmt_nfkc); only identity is supported",
               source_);
        }
        break;
      case 3: add_dummy_prefix_ = m.number() != 0; break;
      case 4: remove_extra_whitespaces_ = m.number() != 0; break;
      case 5: escape_whitespaces_ = m.number() != 0; break;
    }
  }
}

void SentencePiece::index_pieces() {
  size_t user_defined_bytes = 0;
  bytes_.fill(-1);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& p = pieces_[i];
    const auto id = int32_t(i);
    const bool plain = p.type == Type::normal || p.type == Type::user_defined || p.type == Type::unused;
    if (!(plain ? matchable_ : reserved_).insert(p.text, id)) {
      fail("{}: piece {}: the text '{}' is there twice", source_, i, p.text);
    }
    if (p.type == Type::user_defined) {
      user_defined_.insert(p.text, id);
      if ((user_defined_bytes += p.text.size()) > kMaxUserDefinedBytes) {
        fail("{}: user-defined pieces of more than {} bytes in all", source_, kMaxUserDefinedBytes);
      }
    } else if (p.type == Type::unknown) {
      if (unk_ >= 0) fail("{}: piece {}: a second unknown piece, after {}", source_, i, unk_);
      unk_ = id;
    } else if (p.type == Type::byte) {
      const int byte = byte_of(p.text);
      if (byte < 0)
        fail("{}: piece {}: expected a byte piece such as <0x0A>, found '{}'", source_, i, p.text);
      if (!byte_fallback_) fail("{}: piece {}: a byte piece, but byte_fallback is off", source_, i);
      bytes_[size_t(byte)] = id;
    }
  }
  if (unk_ < 0) fail("{}: no piece has the type UNKNOWN", source_);
  for (int b = 0; byte_fallback_ && b < 256; ++b) {
    if (bytes_[size_t(b)] < 0)
      fail("{}: byte_fallback is on, but the piece <0x{:02X}> is missing", source_, b);
  }
  for (int32_t* special :
       {&bos_, &eos_, &pad_}) {  // as the reference: an id that is no control piece is none
    if (*special >= vocab_size() || (*special >= 0 && !is_control(*special))) *special = -1;
  }
}

int SentencePiece::find(std::string_view piece) const {
  const int32_t id = reserved_.find(piece);
  return id >= 0 ? id : matchable_.find(piece);
}

}  // namespace flashrt
