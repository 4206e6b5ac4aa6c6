// load_policy_checkpoint: recognise the layout, read the config, give every tensor its canonical name.
#include "io/policy_checkpoint.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "io/policy_processors.h"
#include "io/policy_weights.h"

namespace flashrt {

namespace {

namespace fs = std::filesystem;

std::string find_tokenizer(const fs::path& directory) {
  for (const fs::path& folder : {directory, directory / "assets"}) {
    for (const char* name : {"tokenizer.model", "tokenizer.json", "paligemma_tokenizer.model"}) {
      std::error_code error;
      if (fs::is_regular_file(folder / name, error)) return (folder / name).string();
    }
  }
  return "";
}

// Canonical names for all tensors of the store. A fallback name gives way to a proper one.
void name_tensors(PolicyCheckpoint& checkpoint, const std::vector<WeightSpec>& specs) {
  std::map<std::string, const TensorView*> fallbacks;
  std::map<std::string_view, const WeightSpec*> wanted;
  for (const WeightSpec& spec : specs) wanted.emplace(spec.name, &spec);
  for (const TensorView& tensor : checkpoint.store.tensors()) {
    const auto name = canonical_weight_name(tensor.name, checkpoint.config.family);
    if (!name || (!name->canonical.empty() && !wanted.contains(name->canonical))) {
      checkpoint.unknown.push_back(tensor.name);
      continue;
    }
    if (name->canonical.empty()) {
      checkpoint.unused.push_back(tensor.name);
      continue;
    }
    auto& named = name->fallback ? fallbacks : checkpoint.weights;
    const auto [place, fresh] = named.emplace(name->canonical, &tensor);
    if (!fresh) {
      fail("{} and {} are both the tensor {}", checkpoint.origin(*place->second), checkpoint.origin(tensor),
           name->canonical);
    }
  }
  for (const auto& [name, tensor] : fallbacks) {
    if (!checkpoint.weights.emplace(name, tensor).second) checkpoint.unused.push_back(tensor->name);
  }
}

void check_tensors(const PolicyCheckpoint& checkpoint, const std::vector<WeightSpec>& specs) {
  std::vector<std::string> missing, wrong;
  const auto unreadable = checkpoint.store.unreadable();
  for (const WeightSpec& spec : specs) {
    const TensorView* tensor = checkpoint.find(spec.name);
    if (tensor == nullptr) {
      missing.push_back(fmt::format("{} {}", spec.name, shape_text(spec.shape)));
      continue;
    }
    const bool typed =
        tensor->dtype == DType::f32 || tensor->dtype == DType::bf16 || tensor->dtype == DType::f16;
    if (tensor->shape != spec.shape) {
      wrong.push_back(fmt::format("{}: shape {}, expected {} from the sizes in config.json",
                                  checkpoint.origin(*tensor), shape_text(tensor->shape),
                                  shape_text(spec.shape)));
    } else if (!typed) {
      wrong.push_back(fmt::format("{}: element type {}, expected f32, bf16 or f16",
                                  checkpoint.origin(*tensor), name_of(tensor->dtype)));
    }
  }
  for (const auto& [name, dtype] : unreadable) {
    const auto known = canonical_weight_name(name, checkpoint.config.family);
    if (known && !known->canonical.empty())
      wrong.push_back(fmt::format("{}: element type {} is not supported", name, dtype));
  }
  if (missing.empty() && wrong.empty()) return;
  std::string message = checkpoint.path + ": ";
  if (!missing.empty()) {
    message += fmt::format("{} tensors are missing:\n  {}", missing.size(), fmt::join(missing, "\n  "));
  }
  if (!wrong.empty()) {
    message += fmt::format("{}{} tensors do not fit:\n  {}", missing.empty() ? "" : "\n", wrong.size(),
                           fmt::join(wrong, "\n  "));
  }
  if (!missing.empty() && !checkpoint.unknown.empty()) {
    message += fmt::format("\n{} tensors have unknown names:\n  {}", checkpoint.unknown.size(),
                           fmt::join(checkpoint.unknown, "\n  "));
  }
  fail("{}", message);
}

void read_statistics(PolicyCheckpoint& checkpoint, const CheckpointOptions& options) {
  PolicyConfig& config = checkpoint.config;
  ProcessorResult result;
  switch (config.layout) {
    case PolicyLayout::lerobot:
      result = read_lerobot_processors(checkpoint.path, checkpoint.store, config);
      break;
    case PolicyLayout::openpi: result = read_openpi_assets(checkpoint.path, options.asset, config); break;
    case PolicyLayout::transformers: result = read_transformers_processor(checkpoint.path, config); break;
  }
  checkpoint.statistics = result.statistics;
  checkpoint.warnings.insert(checkpoint.warnings.end(), result.warnings.begin(), result.warnings.end());
}

// openpi's pi05_libero is the one Pi0.5 configuration whose prompt has no state; only its asset tells.
void apply_asset_rules(PolicyCheckpoint& checkpoint, const JsonNode& config) {
  PolicyConfig& c = checkpoint.config;
  const bool libero = checkpoint.statistics.find("/physical-intelligence/libero/") != std::string::npos;
  if (c.layout != PolicyLayout::openpi || !c.state_in_prompt || !libero) return;
  if (config.find("discrete_state_input")) return;
  c.state_in_prompt = false;
  checkpoint.warnings.push_back(
      "asset physical-intelligence/libero: the state is not part of the prompt, as in pi05_libero "
      "(\"discrete_state_input\": true in config.json overrides)");
}

}  // namespace

const TensorView* PolicyCheckpoint::find(std::string_view canonical) const {
  const auto found = weights.find(std::string(canonical));
  return found == weights.end() ? nullptr : found->second;
}

std::string PolicyCheckpoint::origin(const TensorView& tensor) const {
  return fmt::format("{}: {}", store.file_of(tensor), tensor.name);
}

PolicyCheckpoint load_policy_checkpoint(const std::string& directory, const CheckpointOptions& options) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) fail("{}: expected the directory of a checkpoint", directory);
  const std::string config_path = (fs::path(directory) / "config.json").string();
  if (!fs::exists(config_path, error)) fail("{}: holds no config.json", directory);
  const JsonDocument config = JsonDocument::read(config_path, {.bytes = size_t{16} << 20});

  PolicyCheckpoint checkpoint{.path = directory, .config = {}, .store = TensorStore(directory)};
  const auto& tensors = checkpoint.store.tensors();
  const bool adaptive = std::any_of(tensors.begin(), tensors.end(),
                                    [](const TensorView& tensor) { return has_adaptive_norms(tensor.name); });
  checkpoint.config = read_policy_config(config.root(), adaptive);
  const auto specs = policy_weights(checkpoint.config);
  name_tensors(checkpoint, specs);
  check_tensors(checkpoint, specs);
  read_statistics(checkpoint, options);
  apply_asset_rules(checkpoint, config.root());
  checkpoint.tokenizer = find_tokenizer(directory);
  return checkpoint;
}

}  // namespace flashrt
