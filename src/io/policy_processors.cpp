// Statistics and preprocessing rules that stand beside the weights.
#include "io/policy_processors.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/error.h"

namespace flashrt {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxProcessorFile = size_t{64} << 20;
constexpr const char* kPlainSteps[] = {
    "to_batch_processor",         "device_processor",
    "pi0_new_line_processor",     "pi05_prepare_state_tokenizer_processor_step",
    "absolute_actions_processor",
};

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// A file name of the same folder, as the processors refer to their state.
std::string sibling(const std::string& directory, const JsonNode& node) {
  const std::string& name = node.text();
  if (name.empty() || name[0] == '.' || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos) {
    node.fail_expected("the name of a file in the same folder");
  }
  return (fs::path(directory) / name).string();
}

std::string lower(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// LeRobot's mask: a dimension stays absolute when an excluded joint's name is part of its name.
std::vector<bool> relative_mask(const JsonNode& step, int64_t dims) {
  std::vector<bool> mask(size_t(dims), true);
  const auto excluded = step.find("exclude_joints"), names = step.find("action_names");
  if (!excluded || !names) return mask;
  const auto elements = names->elements();
  for (size_t i = 0; i < std::min(elements.size(), mask.size()); ++i) {
    const std::string name = lower(elements[i].text());
    for (const JsonNode& token : excluded->elements()) {
      if (!token.text().empty() && name.find(lower(token.text())) != name.npos) mask[i] = false;
    }
  }
  return mask;
}

NormMode mode_of(const JsonNode& step, const char* feature, NormMode fallback) {
  const auto map = step.find("norm_map");
  const auto node = map ? map->find(feature) : std::nullopt;
  return node ? read_norm_mode(*node) : fallback;
}

class LeRobotProcessors {
 public:
  LeRobotProcessors(const std::string& directory, PolicyConfig& config)
      : directory_(directory), config_(config) {}

  void read(const std::string& file, bool post) {
    const std::string path = (fs::path(directory_) / file).string();
    if (!is_there(path)) {
      result_.warnings.push_back(
          fmt::format("{} is missing: {} are not normalised", path, post ? "actions" : "states"));
      return;
    }
    const JsonDocument document = JsonDocument::read(path, {.bytes = kMaxProcessorFile});
    for (const JsonNode& step : document.root().at("steps").elements()) read_step(step, post);
  }

  ProcessorResult result_;

 private:
  void read_step(const JsonNode& step, bool post) {
    const auto named = step.find("registry_name");
    const std::string name = named ? named->text() : step.text_or("class", "");
    const auto options = step.find("config");
    if (name == "normalizer_processor" || name == "unnormalizer_processor") {
      read_normalizer(step, post);
    } else if (name == "tokenizer_processor" && options) {
      config_.max_prompt_tokens = options->integer_or("max_length", config_.max_prompt_tokens, 1, 65536);
    } else if (name == "rename_observations_processor" && options) {
      if (const auto map = options->find("rename_map")) {
        for (const auto& [from, to] : map->members()) config_.renames.emplace(from, to.text());
      }
    } else if (name == "relative_actions_processor" && options) {
      const int64_t dims = config_.robot_action_dim > 0 ? config_.robot_action_dim : config_.action_dim;
      if (options->boolean_or("enabled", false)) config_.relative_actions = relative_mask(*options, dims);
    } else if (std::find(std::begin(kPlainSteps), std::end(kPlainSteps), name) == std::end(kPlainSteps)) {
      result_.warnings.push_back(fmt::format("{}: {}: unknown processor step {}, ignored", step.source(),
                                             step.pointer(), json_quote(name)));
    }
  }

  // The state's statistics come from the preprocessor, the action's from the postprocessor.
  void read_normalizer(const JsonNode& step, bool post) {
    NormMode& mode = post ? config_.action_mode : config_.state_mode;
    Normalizer& normalizer = post ? config_.action : config_.state;
    double epsilon = 1e-8;
    if (const auto options = step.find("config")) {
      mode = mode_of(*options, post ? "ACTION" : "STATE", mode);
      epsilon = options->number_or("eps", epsilon, 0, 1);
      if (mode_of(*options, "VISUAL", NormMode::identity) != NormMode::identity) {
        options->at("norm_map").at("VISUAL").fail_expected("\"IDENTITY\" (images are scaled to [-1, 1])");
      }
    }
    if (mode == NormMode::identity) return;
    const char* prefix = post ? "action." : "observation.state.";
    if (const auto state_file = step.find("state_file")) {
      const SafetensorsFile file(sibling(directory_, *state_file));
      if (const auto read = read_tensor_statistics(file, prefix, mode, epsilon)) {
        normalizer = *read;
        result_.statistics = file.path();
        return;
      }
    }
    // As LeRobot does: a feature without statistics passes through.
    result_.warnings.push_back(fmt::format("{}: {}: no statistics of {}: {} are not normalised",
                                           step.source(), step.pointer(), prefix,
                                           post ? "actions" : "states"));
  }

  const std::string& directory_;
  PolicyConfig& config_;
};

// Checkpoints older than the processors carry their statistics among the weights.
bool read_embedded_statistics(const TensorStore& store, PolicyConfig& config, ProcessorResult& result) {
  const std::string prefixes[] = {"normalize_inputs.buffer_observation_state.",
                                  "unnormalize_outputs.buffer_action."};
  for (const TensorView& tensor : store.tensors()) {
    if (!tensor.name.starts_with(prefixes[0])) continue;
    const SafetensorsFile file(store.file_of(tensor));
    if (const auto state = read_tensor_statistics(file, prefixes[0], config.state_mode, 1e-8))
      config.state = *state;
    if (const auto action = read_tensor_statistics(file, prefixes[1], config.action_mode, 1e-8)) {
      config.action = *action;
    }
    result.statistics = file.path();
    return true;
  }
  return false;
}

}  // namespace

ProcessorResult read_lerobot_processors(const std::string& directory, const TensorStore& store,
                                        PolicyConfig& config) {
  LeRobotProcessors processors(directory, config);
  if (!is_there(fs::path(directory) / "policy_preprocessor.json") &&
      read_embedded_statistics(store, config, processors.result_)) {
    return processors.result_;
  }
  processors.read("policy_preprocessor.json", false);
  processors.read("policy_postprocessor.json", true);
  return processors.result_;
}

ProcessorResult read_openpi_assets(const std::string& directory, const std::string& asset,
                                   PolicyConfig& config) {
  ProcessorResult result;
  const fs::path assets = fs::path(directory) / "assets";
  std::vector<std::string> found;  // asset ids; an id may hold a slash
  std::error_code error;
  for (fs::recursive_directory_iterator it(assets, error), end; !error && it != end; it.increment(error)) {
    if (it.depth() > 3) it.disable_recursion_pending();
    if (it->path().filename() != "norm_stats.json") continue;
    const std::string id = it->path().parent_path().lexically_relative(assets).generic_string();
    if (asset.empty() || id == asset) found.push_back(id);
  }
  std::sort(found.begin(), found.end());
  if (found.empty() && !asset.empty()) fail("{}: holds no {}/norm_stats.json", assets.string(), asset);
  if (found.empty()) {
    result.warnings.push_back(fmt::format("{}: no norm_stats.json: nothing is normalised", assets.string()));
    return result;
  }
  if (found.size() > 1) {
    fail("{}: holds statistics of several assets ({}): choose one", assets.string(), fmt::join(found, ", "));
  }
  result.statistics = (assets / found[0] / "norm_stats.json").string();
  const JsonDocument document = JsonDocument::read(result.statistics, {.bytes = kMaxProcessorFile});
  config.state = read_openpi_statistics(document.root(), "state", config.state_mode);
  config.action = read_openpi_statistics(document.root(), "actions", config.action_mode);
  return result;
}

ProcessorResult read_transformers_processor(const std::string& directory, PolicyConfig& config) {
  ProcessorResult result;
  const std::string path = (fs::path(directory) / "processor_config.json").string();
  if (!is_there(path)) {
    result.warnings.push_back(fmt::format("{} is missing: nothing is normalised", path));
    return result;
  }
  const JsonDocument document = JsonDocument::read(path, {.bytes = kMaxProcessorFile});
  const auto read = [&](const char* feature, Normalizer& normalizer) {
    const auto mean = document.root().find(fmt::format("{}_mean", feature));
    const auto std = document.root().find(fmt::format("{}_std", feature));
    if (!mean || !std) {
      result.warnings.push_back(
          fmt::format("{}: no {}_mean and {}_std: not normalised", path, feature, feature));
      return;
    }
    normalizer = {NormMode::zscore, NormDialect::lerobot, 1e-8, {}, {}};
    for (const JsonNode& value : mean->elements()) normalizer.first.push_back(value.number());
    for (const JsonNode& value : std->elements()) normalizer.second.push_back(value.number());
    check_statistics(normalizer, fmt::format("{}: {}", path, feature));
    result.statistics = path;
  };
  read("state", config.state);
  read("actions", config.action);
  return result;
}

}  // namespace flashrt
