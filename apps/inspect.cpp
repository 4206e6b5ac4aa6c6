// flashrt inspect: what a checkpoint holds, and what its program looks like.
#include <fmt/core.h>

#include "apps/command.h"

namespace flashrt::apps {

namespace {

struct Options {
  NetworkOptions network;
  DeviceOptions device;
  ShapeOptions shape;
  bool tape = false, memory = false, json = false;
};

nlohmann::json describe(const DecoderDims& d) {
  return {{"width", d.width}, {"layers", d.layers},     {"mlp", d.mlp},
          {"heads", d.heads}, {"kv_heads", d.kv_heads}, {"head_dim", d.head_dim}};
}

nlohmann::json describe(const Network& network) {
  const PolicyConfig& c = network.config;
  nlohmann::json out{{"family", name_of(c.family)},
                     {"layout", name_of(c.layout)},
                     {"vision",
                      {{"width", c.vision.width},
                       {"layers", c.vision.layers},
                       {"mlp", c.vision.mlp},
                       {"heads", c.vision.heads},
                       {"image_size", c.vision.image_size},
                       {"patch", c.vision.patch}}},
                     {"language", describe(c.language)},
                     {"expert", describe(c.expert)},
                     {"vocabulary", c.vocab},
                     {"action_dim", c.action_dim},
                     {"horizon", c.horizon},
                     {"max_prompt_tokens", c.max_prompt_tokens},
                     {"steps", c.steps},
                     {"cameras", c.cameras},
                     {"resize", name_of(c.resize)},
                     {"prompt", name_of(c.prompt)},
                     {"state_in_prompt", c.state_in_prompt},
                     {"state_normalisation", name_of(c.state_mode)},
                     {"action_normalisation", name_of(c.action_mode)}};
  if (network.checkpoint) {
    int64_t parameters = 0;
    size_t bytes = 0;
    for (const auto& [name, tensor] : network.checkpoint->weights) {
      parameters += element_count(*tensor);
      bytes += tensor->bytes.size();
    }
    out["parameters"] = parameters;
    out["weight_bytes"] = bytes;
    out["tokenizer"] = network.checkpoint->tokenizer;
    out["statistics"] = network.checkpoint->statistics;
    out["unused_tensors"] = network.checkpoint->unused;
    out["unknown_tensors"] = network.checkpoint->unknown;
  }
  return out;
}

void print_lines(const nlohmann::json& document, const std::string& indent) {
  for (const auto& [key, value] : document.items()) {
    if (value.is_array() && value.size() > 8) {
      fmt::print("{}{:<24} {} entries, first {}\n", indent, key, value.size(), value[0].dump());
    } else {
      fmt::print("{}{:<24} {}\n", indent, key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

int run(const Options& options) {
  Network network = open_network(options.network);
  nlohmann::json out = describe(network);
  const bool build = options.tape || options.memory;
  std::string text;
  if (build) {
    PolicyEngine engine(network.config, network.weights, options.device.open(),
                        options.device.runner_options());
    const PolicyConfig& c = network.config;
    const Runner& runner = engine.runner(options.shape.shape(c));
    out["program"] = {{"lines", runner.program().lines.size()},
                      {"folded", runner.folded},
                      {"dropped", runner.dropped},
                      {"fused", runner.fused},
                      {"launches", runner.launch_count()},
                      {"arena_bytes", runner.plan().arena_bytes},
                      {"arena_bytes_unshared", runner.plan().unshared_bytes},
                      {"memory_bytes", runner.memory_bytes()}};
    if (options.tape) text += dump_tape(runner.program());
    if (options.memory) text += dump_memory(runner.program(), runner.plan());
  }
  if (options.json) {
    if (options.tape || options.memory) out["text"] = text;
    print_json(out);
  } else {
    print_lines(out, "");
    if (!text.empty()) fmt::print("\n{}", text);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("inspect", "Show a checkpoint's configuration, its tape and its memory plan");
  options->network.add_to(command, true);
  command.add_flag("--tape", options->tape, "The program, line by line, after all passes");
  command.add_flag("--memory", options->memory, "Every buffer with its lifetime and offset");
  options->shape.add_to(command);
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
