// load_lm_checkpoint: the configurations, then every tensor against the sizes they give.
#include "io/lm_checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "io/quant_tensors.h"

namespace flashrt {

namespace {

namespace fs = std::filesystem;

std::string head_of(const std::vector<std::string>& lines) {
  constexpr size_t kShown = 20;
  const std::span shown = std::span(lines).first(std::min(lines.size(), kShown));
  std::string text = fmt::format("{}", fmt::join(shown, "\n  "));
  if (lines.size() > kShown) text += fmt::format("\n  and {} more", lines.size() - kShown);
  return text;
}

void check_tensors(LmCheckpoint& checkpoint) {
  std::vector<std::string> missing, wrong, unknown;
  const auto unreadable = checkpoint.store.unreadable();
  std::set<std::string, std::less<>> wanted;
  for (const LmWeightSpec& spec : lm_weight_specs(checkpoint.config)) {
    if (spec.shape.size() == 2) {
      const QuantMatrix matrix =
          find_quant_matrix(checkpoint.store, checkpoint.quant, spec.name, spec.shape[0], spec.shape[1]);
      if (matrix.packed != nullptr) {
        checkpoint.packed.emplace(spec.name, matrix.packed);
        wanted.insert(matrix.tensors.begin(), matrix.tensors.end());
        continue;
      }
    }
    wanted.insert(spec.name);
    if (const auto found = unreadable.find(spec.name); found != unreadable.end()) {
      wrong.push_back(
          fmt::format("{}: element type {}, expected F32, BF16 or F16", spec.name, found->second));
      continue;
    }
    const TensorView* tensor = checkpoint.store.find(spec.name);
    if (tensor == nullptr) {
      missing.push_back(fmt::format("{} {}", spec.name, shape_text(spec.shape)));
    } else if (tensor->shape != spec.shape) {
      wrong.push_back(fmt::format("{}: {}: shape {}, expected {} from the sizes in config.json",
                                  checkpoint.store.file_of(*tensor), spec.name, shape_text(tensor->shape),
                                  shape_text(spec.shape)));
    } else if (tensor->dtype != DType::f32 && tensor->dtype != DType::bf16 && tensor->dtype != DType::f16) {
      wrong.push_back(fmt::format("{}: {}: element type {}, expected f32, bf16 or f16",
                                  checkpoint.store.file_of(*tensor), spec.name, name_of(tensor->dtype)));
    }
  }
  if (!missing.empty() || !wrong.empty()) {
    std::string message = checkpoint.path + ": ";
    if (!missing.empty())
      message += fmt::format("{} tensors are missing:\n  {}", missing.size(), head_of(missing));
    if (!wrong.empty()) {
      message += fmt::format("{}{} tensors do not fit:\n  {}", missing.empty() ? "" : "\n", wrong.size(),
                             head_of(wrong));
    }
    fail("{}", message);
  }
  for (const TensorView& tensor : checkpoint.store.tensors()) {
    const bool derived = tensor.name.ends_with("rotary_emb.inv_freq") ||
                         (checkpoint.config.tied && tensor.name == "lm_head.weight") ||
                         tensor.name.ends_with(".k_scale") || tensor.name.ends_with(".v_scale");
    if (!wanted.contains(tensor.name) && !derived) unknown.push_back(tensor.name);
  }
  // A tensor nobody reads may be a part of the model that nobody computes.
  if (!unknown.empty()) {
    fail("{}: {} tensors are no part of a {} model of this configuration:\n  {}", checkpoint.path,
         unknown.size(), checkpoint.config.family, head_of(unknown));
  }
}

}  // namespace

LmCheckpoint load_lm_checkpoint(const std::string& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) fail("{}: expected the directory of a checkpoint", directory);
  const fs::path root(directory);
  if (!fs::is_regular_file(root / "config.json", error)) fail("{}: config.json is missing", directory);
  const JsonDocument document = JsonDocument::read((root / "config.json").string());
  LmConfig config = read_lm_config(document.root());
  LmCheckpoint checkpoint{.path = directory,
                          .config = std::move(config),
                          .generation = {},
                          .store = TensorStore(directory),
                          .warnings = {}};
  if (const auto quantised = document.root().find("quantization_config")) {
    checkpoint.quant = read_quant_config(*quantised);
  } else if (fs::is_regular_file(root / "hf_quant_config.json", error)) {
    const JsonDocument beside = JsonDocument::read((root / "hf_quant_config.json").string());
    checkpoint.quant = read_hf_quant_config(beside.root());
  }
  check_tensors(checkpoint);
  if (fs::is_regular_file(root / "generation_config.json", error)) {
    const JsonDocument generation = JsonDocument::read((root / "generation_config.json").string());
    checkpoint.generation = read_lm_generation(generation.root(), checkpoint.config.vocab);
  }
  if (checkpoint.generation.end_tokens.empty())
    checkpoint.generation.end_tokens = checkpoint.config.end_tokens;
  if (checkpoint.generation.end_tokens.empty()) {
    checkpoint.warnings.push_back(directory + ": no eos_token_id: answers end at the token limit alone");
  }
  return checkpoint;
}

}  // namespace flashrt
