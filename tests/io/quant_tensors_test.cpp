// Matrices as the writers of packed checkpoints store them, against the values their own code computes; and
// what is refused.
#include "io/quant_tensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace flashrt {
namespace {

const std::string kMatrices = FLASHRT_TEST_DATA "/quant/matrices.safetensors";

struct Golden {
  SafetensorsFile file{kMatrices};
  TensorStore store{kMatrices};

  const TensorView& at(const std::string& name) const { return *file.find(name); }
  QuantConfig config(const std::string& way) const {
    return read_quant_config(JsonDocument(file.metadata().at(way), way).root());
  }
  std::vector<float> values(const std::string& name) const {
    std::vector<float> values(size_t(element_count(at(name))));
    std::memcpy(values.data(), at(name).bytes.data(), at(name).bytes.size());
    return values;
  }
};

// Bit for bit: the sign of a zero does not count.
void expect_same(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  size_t different = 0;
  for (size_t i = 0; i < got.size(); ++i) different += got[i] != want[i];
  EXPECT_EQ(different, 0u) << what << ", of " << got.size();
}

TEST(QuantTensors, DecodesEveryWayOfStoringBitForBit) {
  const Golden golden;
  EXPECT_EQ(golden.file.metadata().size(), 16u);
  for (const auto& [way, text] : golden.file.metadata()) {
    const std::vector<int64_t>& shape = golden.at(way + ".values").shape;
    const QuantMatrix matrix =
        find_quant_matrix(golden.store, golden.config(way), way + ".weight", shape[0], shape[1]);
    ASSERT_NE(matrix.packed, nullptr) << way;
    std::vector<float> got(size_t(shape[0] * shape[1]));
    quant::decode(*matrix.packed, 0, shape[0], got.data());
    expect_same(got, golden.values(way + ".values"), way);
    for (int64_t row = 1; row < shape[0]; row += 3) {  // any row alone
      std::vector<float> one(static_cast<size_t>(shape[1]));
      quant::decode(*matrix.packed, row, 1, one.data());
      EXPECT_TRUE(std::equal(one.begin(), one.end(), got.begin() + row * shape[1])) << way << " row " << row;
    }
    // Every tensor but the expected values belongs to the matrix.
    const auto owned = std::ranges::count_if(golden.file.tensors(), [&](const TensorView& t) {
      return t.name.starts_with(way + ".") && t.name != way + ".values";
    });
    EXPECT_EQ(int64_t(matrix.tensors.size()), owned) << way;
  }
}

TEST(QuantTensors, OurEncodersAgreeWithTheirs) {
  const Golden golden;
  const std::vector<float> values = golden.values("encode.weight");
  for (const quant::Format format : {quant::Format::fp8, quant::Format::int4, quant::Format::nvfp4}) {
    const quant::Packed packed = quant::encode(
        format, 12, 128, [&](int64_t r, float* out) { std::copy_n(values.begin() + r * 128, 128, out); },
        "w");
    std::vector<float> got(values.size());
    quant::decode(packed, 0, 12, got.data());
    expect_same(got, golden.values(fmt::format("encode.{}", quant::name_of(format))),
                std::string(quant::name_of(format)));
  }
}

void expect_refused(const std::string& json, const std::vector<std::string>& words) {
  try {
    read_quant_config(JsonDocument(json, "config.json").root());
    FAIL() << json;
  } catch (const Error& error) {
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }
}

TEST(QuantConfig, RefusesWhatIsNotComputed) {
  expect_refused(R"({"bits": 4})", {"config.json", "quant_method"});
  expect_refused(R"({"quant_method": "bitsandbytes"})", {"quant_method", "gptq", "bitsandbytes"});
  expect_refused(R"({"quant_method": "gptq", "bits": 3, "group_size": 128})", {"bits", "4", "3"});
  expect_refused(R"({"quant_method": "gptq", "bits": 4, "group_size": 0})", {"group_size"});
  expect_refused(R"({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"})",
                 {"checkpoint_format", "marlin"});
  expect_refused(R"({"quant_method": "awq", "bits": 4, "version": "gemv"})", {"version", "gemm", "gemv"});
  expect_refused(R"({"quant_method": "awq", "bits": 4, "zero_point": false})", {"zero_point"});
  expect_refused(R"({"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"})",
                 {"format", "mxfp4"});
  expect_refused(
      R"({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}})",
      {"sparsity_config", "sparse-24-bitmask"});
  expect_refused(
      R"({"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"R1": {}}}})",
      {"transform_config"});
  expect_refused(R"({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"})",
                 {"quant_algo", "NVFP4", "W4A8_AWQ"});
  expect_refused(R"({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 32})",
                 {"group_size", "16"});
  expect_refused(R"({"quant_method": "fp8", "fmt": "e5m2"})", {"fmt", "e4m3", "e5m2"});
  EXPECT_EQ(
      read_quant_config(JsonDocument(R"({"quant_method": "gptq", "bits": 4, "group_size": -1})", "").root())
          .group,
      -1);
}

// Writes the tensors of `way` with one of them changed, and expects the error to name `words`.
void expect_bad(const std::string& way, const std::function<void(std::vector<TensorView>&)>& change,
                const std::vector<std::string>& words) {
  const Golden golden;
  std::vector<TensorView> tensors;
  for (const TensorView& t : golden.file.tensors()) {
    if (t.name.starts_with(way + ".")) tensors.push_back(t);
  }
  change(tensors);
  const std::string path = testing::TempDir() + "bad_" + way + ".safetensors";
  write_safetensors(path, tensors);
  const std::vector<int64_t>& shape = golden.at(way + ".values").shape;
  try {
    find_quant_matrix(TensorStore(path), golden.config(way), way + ".weight", shape[0], shape[1]);
    ADD_FAILURE() << way << " was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << word << " in: " << error.what();
    }
  }
  std::filesystem::remove(path);
}

TensorView& named(std::vector<TensorView>& tensors, const std::string& name) {
  return *std::ranges::find(tensors, name, &TensorView::name);
}
void drop(std::vector<TensorView>& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const TensorView& t) { return t.name == name; });
}

TEST(QuantTensors, NamesWhatDoesNotFit) {
  for (const auto& [way, part] : {std::pair<std::string, std::string>{"gptq", "scales"},
                                  {"gptq", "qzeros"},
                                  {"awq", "scales"},
                                  {"ct_fp8", "weight_scale"},
                                  {"ct_int4", "weight_shape"},
                                  {"ct_int4", "weight_scale"},
                                  {"ct_nvfp4", "weight_global_scale"},
                                  {"modelopt_nvfp4", "weight_scale_2"},
                                  {"fp8_blocks", "weight_scale_inv"}}) {
    const std::string name = way == "fp8_blocks" ? "fp8_blocks.weight_scale" : way + "." + part;
    expect_bad(way, [&](auto& t) { drop(t, way + "." + part); }, {name, "is missing", "expected"});
  }
  expect_bad("gptq",
             [](auto& t) {
               named(t, "gptq.scales").shape = {24, 3};
             },
             {"gptq.scales", "[3, 24]", "[24, 3]"});
  expect_bad("ct_nvfp4", [](auto& t) { named(t, "ct_nvfp4.weight_scale").dtype = DType::u8; },
             {"ct_nvfp4.weight_scale", "f8_e4m3", "u8"});
  const float bad[] = {-1.f};
  expect_bad(
      "modelopt_nvfp4",
      [&](auto& t) { named(t, "modelopt_nvfp4.weight_scale_2").bytes = std::as_bytes(std::span(bad)); },
      {"weight_scale_2", "positive", "-1"});
  std::vector<int32_t> groups(64, 2);
  expect_bad("gptq_shuffled",
             [&](auto& t) { named(t, "gptq_shuffled.g_idx").bytes = std::as_bytes(std::span(groups)); },
             {"g_idx", "0 to 1", "found 2 for column 0"});
  const int64_t turned[] = {96, 10};
  expect_bad("ct_int4",
             [&](auto& t) { named(t, "ct_int4.weight_shape").bytes = std::as_bytes(std::span(turned)); },
             {"weight_shape", "[10, 96]", "[96, 10]"});
}

}  // namespace
}  // namespace flashrt
