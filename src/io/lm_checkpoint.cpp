// load_lm_checkpoint: the configurations, then every tensor against the sizes they give.
#include "io/lm_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/threads.h"
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
    const bool masks = checkpoint.config.family == "gpt2" &&
                       (tensor.name.ends_with(".attn.bias") || tensor.name.ends_with(".attn.masked_bias"));
    const bool derived = masks || tensor.name.ends_with("rotary_emb.inv_freq") ||
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

// Matrices that are stored [in, out] are held as [out, in], as every model's file multiplies by them.
void turn_tensors(LmCheckpoint& checkpoint) {
  for (const LmWeightSpec& spec : lm_weight_specs(checkpoint.config)) {
    if (!spec.transposed) continue;
    const TensorView* found = checkpoint.store.find(spec.name);
    if (found == nullptr) fail("{}: {}: expected plain elements", checkpoint.path, spec.name);
    const TensorView& stored = *found;
    const size_t rows = size_t(spec.shape[0]), cols = size_t(spec.shape[1]), size = size_of(stored.dtype);
    std::vector<std::byte> turned(stored.bytes.size());
    parallel_for(int64_t(cols), 64, [&](int64_t begin, int64_t end) {
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = size_t(begin); c < size_t(end); ++c) {
          std::memcpy(&turned[(c * rows + r) * size], &stored.bytes[(r * cols + c) * size], size);
        }
      }
    });
    checkpoint.store.replace(spec.name, {spec.shape[1], spec.shape[0]}, std::move(turned));
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
  // The first GPT-2 checkpoints name the tensors of the body alone.
  if (checkpoint.config.family == "gpt2" && checkpoint.store.find("wte.weight") != nullptr)
    checkpoint.config.prefix.clear();
  check_tensors(checkpoint);
  turn_tensors(checkpoint);
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

void require_vocabulary(const LmCheckpoint& checkpoint, const Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() <= checkpoint.config.vocab) return;
  fail("{}: the tokenizer has {} entries, config.json says vocab_size {}", checkpoint.path,
       tokenizer.vocab_size(), checkpoint.config.vocab);
}

}  // namespace flashrt
