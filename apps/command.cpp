// Shared parts of the subcommands.
#include "apps/command.h"

#include <fmt/core.h>

#include "base/threads.h"

namespace flashrt::apps {

namespace {
Run g_selected;
}

void on_run(CLI::App& app, Run run) {
  app.callback([run = std::move(run)] { g_selected = run; });
}

int run_selected() { return g_selected ? g_selected() : 0; }

void DeviceOptions::add_to(CLI::App& app) {
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--precision", precision, "auto (bf16 on a GPU, f32 on the CPU), f32, bf16 or f16")
      ->capture_default_str();
  app.add_flag("!--no-fuse", fuse, "Keep every recorded line: no fusion patterns");
  app.add_option("--threads", threads, "CPU threads (0: all)")->check(CLI::Range(0, 1024));
  app.add_option(
      "--use", implementations,
      "Force an implementation, as op=name, or exclude some, as op=-name,-name (see `flashrt profile`)");
}

std::shared_ptr<Backend> DeviceOptions::open() const {
  set_thread_count(threads);
  return Backend::open(device, parse_precision(precision), [](size_t bytes) {
    if (isatty(2)) fmt::print(stderr, "\rweights on the device: {:.2f} GB ", double(bytes) / 1e9);
  });
}

RunnerOptions DeviceOptions::runner_options() const {
  RunnerOptions options{.fuse = fuse};
  for (const std::string& text : implementations) {
    const size_t equals = text.find('=');
    if (equals == text.npos) fail("--use: expected op=name, found '{}'", text);
    options.force.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return options;
}

void NetworkOptions::add_to(CLI::App& app, bool allow_random) {
  auto* path = app.add_option("checkpoint", checkpoint,
                              "Checkpoint directory (LeRobot, openpi PyTorch or transformers layout)");
  if (allow_random) {
    auto* name =
        app.add_option("--random", random, "Random weights of the published sizes instead: pi0 or pi05");
    name->excludes(path);
    app.add_option("--weight-seed", seed, "Seed of the random weights")->capture_default_str();
  } else {
    path->required();
  }
  app.add_option("--steps", steps, "Denoising steps (0: the checkpoint's)")->check(CLI::Range(0, 1000));
}

void ShapeOptions::add_to(CLI::App& app) {
  const auto add = [&](const char* name, int64_t& value, const char* text, int64_t most) {
    app.add_option(name, value, text)->capture_default_str()->check(CLI::Range(int64_t{0}, most));
  };
  add("--views", views, "Cameras (0: all of the checkpoint's)", 16);
  add("--prompt-tokens", text_tokens, "Prompt tokens (0: the checkpoint's room)", 4096);
  add("--horizon", horizon, "Actions of a chunk (0: the checkpoint's)", 4096);
}

PolicyShape ShapeOptions::shape(const PolicyConfig& config) const {
  const auto cameras = std::max<int64_t>(1, int64_t(config.cameras.size()));
  return {.views = views > 0 ? views : cameras,
          .text_tokens = text_tokens > 0 ? text_tokens : config.max_prompt_tokens,
          .horizon = horizon > 0 ? horizon : config.horizon,
          .steps = config.steps};
}

PolicyConfig published_config(const std::string& family) {
  if (family != "pi0" && family != "pi05") fail("--random: expected pi0 or pi05, found '{}'", family);
  PolicyConfig config;
  config.family = family == "pi0" ? PolicyFamily::pi0 : PolicyFamily::pi05;
  config.max_prompt_tokens = family == "pi0" ? 48 : 200;
  config.embedding_scale = std::sqrt(double(config.language.width));
  config.cameras = {"base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"};
  return config;
}

Network open_network(const NetworkOptions& options) {
  Network network;
  if (!options.random.empty()) {
    network.config = published_config(options.random);
    network.weights = random_policy_weights(network.config, options.seed);
  } else if (options.checkpoint.empty()) {
    fail("expected a checkpoint directory, or --random pi0|pi05");
  } else {
    network.checkpoint = std::make_unique<PolicyCheckpoint>(load_policy_checkpoint(options.checkpoint));
    for (const std::string& warning : network.checkpoint->warnings) log_warn("{}", warning);
    network.config = network.checkpoint->config;
    network.weights = checkpoint_weights(*network.checkpoint);
  }
  if (options.steps > 0) network.config.steps = options.steps;
  return network;
}

void print_json(const nlohmann::json& document) { fmt::print("{}\n", document.dump(2)); }

}  // namespace flashrt::apps
