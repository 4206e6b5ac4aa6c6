// find_quant_matrix: one reader per way of storing, each a list of tensors with the shapes they must have.
#include "io/quant_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace flashrt {

namespace {

using quant::Format;
using quant::Order;
using quant::Packed;
using Method = QuantConfig::Method;
using Shape = std::vector<int64_t>;

class Reader {
 public:
  Reader(const TensorStore& store, const QuantConfig& config, const std::string& name, int64_t rows,
         int64_t cols)
      : store_(store),
        config_(config),
        name_(name),
        stem_(name.substr(0, name.size() - 6)),
        rows_(rows),
        cols_(cols) {}

  QuantMatrix read();

 private:
  const TensorView* find(const std::string& part) const { return store_.find(stem_ + part); }
  const TensorView& need(const std::string& part, std::initializer_list<DType> types,
                         std::initializer_list<Shape> shapes);
  void ignore(std::initializer_list<const char*> parts);
  void need_multiple(int64_t value, int64_t of, const char* what) const;
  float scalar(const std::string& part);

  void read_words(bool awq);
  void read_groups(const TensorView& groups);
  void read_pack_quantized();
  void read_nvfp4(const char* codes, const char* global, bool divides);
  void read_bytes(const char* scale);

  const TensorStore& store_;
  const QuantConfig& config_;
  const std::string& name_;
  std::string stem_;  // with the last dot
  int64_t rows_, cols_;
  Packed p_;
  std::vector<std::string> used_;
};

const TensorView& Reader::need(const std::string& part, std::initializer_list<DType> types,
                               std::initializer_list<Shape> shapes) {
  const TensorView* tensor = find(part);
  std::vector<std::string> shape_texts, type_texts;
  for (const Shape& shape : shapes) shape_texts.push_back(shape_text(shape));
  for (const DType type : types) type_texts.emplace_back(name_of(type));
  const std::string expected =
      fmt::format("{} of {}", fmt::join(shape_texts, " or "), fmt::join(type_texts, ", "));
  if (tensor == nullptr) {
    fail("{}: {}{} is missing: expected {}, as {} stores {}", store_.path(), stem_, part, expected,
         name_of(config_.method), name_);
  }
  if (std::ranges::find(types, tensor->dtype) == types.end() ||
      std::ranges::find(shapes, tensor->shape) == shapes.end()) {
    fail("{}: {}: expected {}, found {} of {}", store_.file_of(*tensor), tensor->name, expected,
         shape_text(tensor->shape), name_of(tensor->dtype));
  }
  used_.push_back(tensor->name);
  return *tensor;
}

// Scales of activations: the products are computed with activations as they are.
void Reader::ignore(std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    if (find(part) != nullptr) used_.push_back(stem_ + part);
  }
}

void Reader::need_multiple(int64_t value, int64_t of, const char* what) const {
  if (value % of != 0) {
    fail("{}: {}: {} stores matrices whose {} are a multiple of {}, found [{}, {}]", store_.path(), name_,
         name_of(config_.method), what, of, rows_, cols_);
  }
}

float Reader::scalar(const std::string& part) {
  const TensorView& tensor = need(part, {DType::f32}, {{}, {1}});
  const float value = load_float(tensor.bytes.data(), DType::f32, 0);
  if (!std::isfinite(value) || value <= 0) {
    fail("{}: {}: expected a positive number, found {}", store_.file_of(tensor), tensor.name, value);
  }
  return value;
}

// `groups` [cols]: the group of every column. In order it says nothing new.
void Reader::read_groups(const TensorView& groups) {
  bool in_order = true;
  for (int64_t c = 0; c < cols_; ++c) {
    int32_t g;
    std::memcpy(&g, groups.bytes.data() + c * 4, 4);
    if (g < 0 || g >= p_.groups()) {
      fail("{}: {}: expected groups from 0 to {}, found {} for column {}", store_.file_of(groups),
           groups.name, p_.groups() - 1, g, c);
    }
    in_order &= g == c / p_.group;
  }
  if (!in_order) p_.group_of = groups.bytes.data();
}

// GPTQ: qweight i32 [cols / 8, rows]; AWQ: [cols, rows / 8]; of both scales [groups, rows], qzeros i32
// [groups, rows / 8].
void Reader::read_words(bool awq) {
  need_multiple(rows_, 8, "rows");
  need_multiple(cols_, 8, "columns");
  p_.format = Format::int4;
  p_.order = awq ? Order::words_across : Order::words_down;
  p_.group = config_.group < 0 ? cols_ : config_.group;
  const int64_t groups = p_.groups();
  const Shape codes = awq ? Shape{cols_, rows_ / 8} : Shape{cols_ / 8, rows_};
  p_.codes = need("qweight", {DType::i32}, {codes}).bytes.data();
  const TensorView& scales = need("scales", {DType::f16, DType::bf16, DType::f32}, {{groups, rows_}});
  p_.scales = scales.bytes.data(), p_.scale_type = scales.dtype;
  p_.scale_row_stride = 1, p_.scale_group_stride = rows_;
  p_.zeros = need("qzeros", {DType::i32}, {{groups, rows_ / 8}}).bytes.data();
  p_.zero_row_stride = 1, p_.zero_group_stride = rows_ / 8;
  p_.zeros_interleaved = awq;
  p_.zero_plus = !awq && config_.zero_plus ? 1 : 0;
  if (!awq && find("g_idx") != nullptr) read_groups(need("g_idx", {DType::i32}, {{cols_}}));
}

// compressed-tensors, pack-quantized: weight_packed i32 [rows, ⌈cols / 8⌉], codes plus 8, or [rows, ⌈cols /
// 4⌉], codes plus 128; weight_scale [rows, groups]; weight_zero_point i32 [⌈rows / 8⌉, groups], also plus 8,
// where codes of 4 bits are not symmetric.
void Reader::read_pack_quantized() {
  const int64_t words = (cols_ + 7) / 8, wide_words = (cols_ + 3) / 4;
  const TensorView& codes = need("weight_packed", {DType::i32}, {{rows_, words}, {rows_, wide_words}});
  const bool wide = codes.shape[1] == wide_words && (wide_words != words || config_.bits == 8);
  p_.format = wide ? Format::int8 : Format::int4;
  p_.biased = wide;
  p_.codes = codes.bytes.data();
  p_.code_stride = codes.shape[1] * 4;
  const int64_t configured = config_.group > 0 ? config_.group : cols_;
  const TensorView& scales = need("weight_scale", {DType::f16, DType::bf16, DType::f32},
                                  {{rows_, (cols_ + configured - 1) / configured}, {rows_, 1}});
  const int64_t groups = scales.shape[1];
  p_.group = groups == 1 ? cols_ : configured;
  p_.scales = scales.bytes.data(), p_.scale_type = scales.dtype;
  p_.scale_row_stride = groups, p_.scale_group_stride = 1;
  if (!wide && find("weight_zero_point") != nullptr) {
    p_.zeros = need("weight_zero_point", {DType::i32}, {{(rows_ + 7) / 8, groups}}).bytes.data();
    p_.zero_row_stride = groups, p_.zero_group_stride = 1;
  }
  if (find("weight_g_idx") != nullptr) read_groups(need("weight_g_idx", {DType::i32}, {{cols_}}));
  const TensorView& shape = need("weight_shape", {DType::i64, DType::i32}, {{2}});
  int64_t stored[2] = {};
  for (int i = 0; i < 2; ++i)
    std::memcpy(&stored[i], shape.bytes.data() + size_t(i) * size_of(shape.dtype), size_of(shape.dtype));
  if (stored[0] != rows_ || stored[1] != cols_) {
    fail("{}: {}: expected [{}, {}], found [{}, {}]", store_.file_of(shape), shape.name, rows_, cols_,
         stored[0], stored[1]);
  }
}

// Codes u8 [rows, cols / 2], weight_scale e4m3 [rows, cols / 16], one f32 for the matrix.
void Reader::read_nvfp4(const char* codes, const char* global, bool divides) {
  need_multiple(cols_, 16, "columns");
  p_.format = Format::nvfp4;
  p_.codes = need(codes, {DType::u8}, {{rows_, cols_ / 2}}).bytes.data();
  p_.code_stride = cols_ / 2;
  p_.scales = need("weight_scale", {DType::f8_e4m3}, {{rows_, cols_ / 16}}).bytes.data();
  p_.scale_type = DType::f8_e4m3;
  p_.group = 16, p_.scale_row_stride = cols_ / 16, p_.scale_group_stride = 1;
  p_.global = scalar(global);
  p_.global_divides = divides;
}

// Bytes [rows, cols] of e4m3 or i8; the scale is one for all, one per row, or one per block of 128 × 128.
void Reader::read_bytes(const char* scale) {
  const TensorView& codes = need("weight", {DType::f8_e4m3, DType::i8}, {{rows_, cols_}});
  constexpr int64_t kBlock = 128;
  const Shape blocks{(rows_ + kBlock - 1) / kBlock, (cols_ + kBlock - 1) / kBlock};
  p_.format = codes.dtype == DType::i8 ? Format::int8 : Format::fp8;
  p_.codes = codes.bytes.data(), p_.code_stride = cols_;
  const TensorView& scales =
      need(scale, {DType::f32, DType::bf16, DType::f16}, {{}, {1}, {rows_}, {rows_, 1}, blocks});
  p_.scales = scales.bytes.data(), p_.scale_type = scales.dtype;
  p_.group = cols_, p_.scale_group_stride = 1;
  const int64_t count = element_count(scales);
  if (scales.shape.size() == 2 && scales.shape == blocks && count != rows_) {
    p_.group = kBlock, p_.scale_rows = kBlock, p_.scale_row_stride = blocks[1];
  } else if (count == rows_) {
    p_.scale_row_stride = 1;
  } else {
    p_.scale_rows = rows_;
  }
}

QuantMatrix Reader::read() {
  p_.rows = rows_, p_.cols = cols_;
  const TensorView* plain = find("weight");
  const bool bytes = plain != nullptr && (plain->dtype == DType::f8_e4m3 || plain->dtype == DType::i8);
  const bool packed_bytes = plain != nullptr && plain->dtype == DType::u8;
  const bool words = find("qweight") != nullptr;
  const TensorView* packed = find("weight_packed");
  switch (config_.method) {
    case Method::gptq:
    case Method::awq:
      if (!words) return {};
      read_words(config_.method == Method::awq);
      break;
    case Method::compressed_tensors:
      if (packed != nullptr && packed->dtype == DType::u8)
        read_nvfp4("weight_packed", "weight_global_scale", true);
      else if (packed != nullptr)
        read_pack_quantized();
      else if (bytes)
        read_bytes("weight_scale");
      else
        return {};
      if (find("weight_zero_point") != nullptr && p_.zeros == nullptr) {
        fail("{}: {}weight_zero_point: expected none beside codes of {}", store_.path(), stem_,
             quant::name_of(p_.format));
      }
      ignore({"input_scale", "input_global_scale", "input_zero_point"});
      break;
    case Method::modelopt:
      if (packed_bytes)
        read_nvfp4("weight", "weight_scale_2", false);
      else if (bytes)
        read_bytes("weight_scale");
      else
        return {};
      ignore({"input_scale"});
      break;
    case Method::fp8_blocks:
      if (!bytes) return {};
      read_bytes(find("weight_scale_inv") != nullptr ? "weight_scale_inv" : "weight_scale");
      ignore({"input_scale", "activation_scale"});
      break;
    default: return {};
  }
  return {std::make_shared<const Packed>(p_), std::move(used_)};
}

}  // namespace

QuantMatrix find_quant_matrix(const TensorStore& store, const QuantConfig& config, const std::string& name,
                              int64_t rows, int64_t cols) {
  if (config.method == Method::none || !name.ends_with(".weight")) return {};
  return Reader(store, config, name, rows, cols).read();
}

}  // namespace flashrt
