// One matrix at a time: encoded, measured, written. The file's header is known before: shapes decide all
// sizes.
#include "runtime/quantize.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/threads.h"
#include "runtime/text_generator.h"
#include "runtime/weight_formats.h"

namespace flashrt {

namespace {

namespace fs = std::filesystem;
using quant::Format;
using quant::Packed;

std::span<const std::byte> bytes_of(const auto& value) { return std::as_bytes(std::span(&value, 1)); }

// A matrix's tensors in the order in which they are written.
std::vector<TensorSpec> specs_of(Format format, const std::string& name, int64_t rows, int64_t cols) {
  const std::string stem = name.substr(0, name.size() - std::string_view(".weight").size());
  const TensorSpec shape{stem + ".weight_shape", DType::i64, {2}};
  switch (format) {
    case Format::fp8:
      return {{name, DType::f8_e4m3, {rows, cols}}, {stem + ".weight_scale", DType::f32, {rows, 1}}};
    case Format::int8:
      return {{stem + ".weight_packed", DType::i32, {rows, (cols + 3) / 4}},
              {stem + ".weight_scale", DType::f32, {rows, 1}},
              shape};
    case Format::int4:
      return {{stem + ".weight_packed", DType::i32, {rows, (cols + 7) / 8}},
              {stem + ".weight_scale", DType::bf16, {rows, (cols + 127) / 128}},
              shape};
    case Format::nvfp4:
      return {{stem + ".weight_packed", DType::u8, {rows, cols / 2}},
              {stem + ".weight_scale", DType::f8_e4m3, {rows, cols / 16}},
              {stem + ".weight_global_scale", DType::f32, {1}}};
  }
  return {};
}

void append_matrix(SafetensorsWriter& writer, const Packed& p) {
  writer.append({p.codes, size_t(p.rows * p.code_stride)});
  writer.append({p.scales, size_t(p.rows * p.groups()) * size_of(p.scale_type)});
  const std::array<int64_t, 2> shape{p.rows, p.cols};
  if (p.format == Format::int8 || p.format == Format::int4) writer.append(bytes_of(shape));
  if (p.format == Format::nvfp4) writer.append(bytes_of(p.global));
}

struct SquaredError {
  double difference = 0, size = 0;  // sums of squares
};

SquaredError measure(const Packed& packed, const Weight& weight) {
  SquaredError total;
  std::mutex mutex;
  parallel_for(packed.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> before(size_t(packed.cols)), after(size_t(packed.cols));
    SquaredError mine;
    for (int64_t r = begin; r < end; ++r) {
      read_weight_row(weight, r, before.data());
      quant::decode(packed, r, 1, after.data());
      for (size_t c = 0; c < before.size(); ++c) {
        const double d = double(after[c]) - before[c];
        mine.difference += d * d;
        mine.size += double(before[c]) * before[c];
      }
    }
    const std::lock_guard lock(mutex);
    total.difference += mine.difference, total.size += mine.size;
  });
  return total;
}

double relative(const SquaredError& e) { return e.size > 0 ? std::sqrt(e.difference / e.size) : 0; }

nlohmann::ordered_json quantization_config(const LmConfig& config, Format format) {
  nlohmann::ordered_json weights{{"num_bits", quant::bits_of(format)},
                                 {"type", format == Format::fp8 || format == Format::nvfp4 ? "float" : "int"},
                                 {"symmetric", true},
                                 {"dynamic", false},
                                 {"strategy", "channel"}};
  if (format == Format::int4) weights["strategy"] = "group", weights["group_size"] = 128;
  if (format == Format::nvfp4) weights["strategy"] = "tensor_group", weights["group_size"] = 16;
  nlohmann::ordered_json ignore = nlohmann::ordered_json::array({"lm_head"});
  if (config.experts > 0) {
    for (int64_t i = 0; i < config.layers; ++i) {
      ignore.push_back(fmt::format("model.layers.{}.{}", i, lm_expert_names(config).router));
    }
  }
  return {{"quant_method", "compressed-tensors"},
          {"format", format == Format::fp8     ? "float-quantized"
                     : format == Format::nvfp4 ? "nvfp4-pack-quantized"
                                               : "pack-quantized"},
          {"quantization_status", "compressed"},
          {"ignore", std::move(ignore)},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", std::move(weights)},
              {"input_activations", nullptr},
              {"output_activations", nullptr}}}}}};
}

// Everything beside the weights: tokenizer, template, generation defaults.
void copy_files(const fs::path& from, const fs::path& to, const LmConfig& config, Format format) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string(), ending = entry.path().extension().string();
    if (!entry.is_regular_file() || name == "config.json" || name == "hf_quant_config.json" ||
        name.ends_with(".safetensors.index.json") || ending == ".safetensors" || ending == ".bin" ||
        ending == ".pt" || ending == ".pth" || ending == ".gguf") {
      continue;
    }
    fs::copy_file(entry.path(), to / name);
  }
  auto document = nlohmann::ordered_json::parse(read_text_file((from / "config.json").string()));
  document["quantization_config"] = quantization_config(config, format);
  std::ofstream file(to / "config.json", std::ios::binary | std::ios::trunc);
  file << document.dump(2) << "\n";
  if (!file.flush()) fail("{}: cannot write", (to / "config.json").string());
}

void require_empty(const fs::path& out) {
  std::error_code error;
  if (fs::exists(out, error) && (!fs::is_directory(out, error) || !fs::is_empty(out, error))) {
    fail("--out {}: expected a new or empty directory", out.string());
  }
  fs::create_directories(out, error);
  if (error) fail("--out {}: cannot make the directory: {}", out.string(), error.message());
}

}  // namespace

QuantizeReport quantize_checkpoint(const LmCheckpoint& checkpoint, Format format, const std::string& out,
                                   const std::function<void(size_t, size_t)>& progress) {
  if (checkpoint.quant.method != QuantConfig::Method::none) {
    fail("{}: config.json: expected plain weights to encode, found a {} checkpoint", checkpoint.path,
         name_of(checkpoint.quant.method));
  }
  const WeightSource source = checkpoint_weights(checkpoint);
  QuantizeReport report;
  std::vector<TensorSpec> specs;
  const auto encoded = [&](const TensorView& tensor) {
    return tensor.shape.size() == 2 && is_encoded(checkpoint.config, tensor.name, source(tensor.name));
  };
  for (const TensorView& tensor : checkpoint.store.tensors()) {
    report.bytes_before += tensor.bytes.size();
    if (!encoded(tensor)) {
      specs.push_back({tensor.name, tensor.dtype, tensor.shape});
      continue;
    }
    if (format == Format::nvfp4 && tensor.shape[1] % 16 != 0) {
      fail("{}: {}: nvfp4 takes rows of a multiple of 16, found {}", checkpoint.path, tensor.name,
           shape_text(tensor.shape));
    }
    for (TensorSpec& spec : specs_of(format, tensor.name, tensor.shape[0], tensor.shape[1])) {
      specs.push_back(std::move(spec));
    }
  }
  require_empty(out);
  SafetensorsWriter writer((fs::path(out) / "model.safetensors").string(), specs, {{"format", "pt"}});
  size_t done = 0;
  SquaredError all;
  for (const TensorView& tensor : checkpoint.store.tensors()) {
    if (encoded(tensor)) {
      const Weight weight = source(tensor.name);
      const Packed packed = encode_weight(format, weight);
      const SquaredError error = measure(packed, weight);
      append_matrix(writer, packed);
      report.matrices.push_back(
          {tensor.name, packed.rows, packed.cols, relative(error), packed.bytes(packed.rows)});
      report.bytes_after += packed.bytes(packed.rows);
      all.difference += error.difference, all.size += error.size;
    } else {
      writer.append(tensor.bytes);
      report.bytes_after += tensor.bytes.size();
      ++report.kept;
    }
    if (progress) progress(done += tensor.bytes.size(), report.bytes_before);
  }
  report.relative_error = relative(all);
  copy_files(checkpoint.path, out, checkpoint.config, format);
  writer.finish();
  return report;
}

}  // namespace flashrt
