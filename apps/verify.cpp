// flashrt verify: replays a recorded case and compares with what the source computed.
#include <fmt/core.h>

#include "apps/command.h"
#include "apps/generate.h"
#include "io/lm_case.h"

namespace flashrt::apps {

namespace {

struct Options {
  NetworkOptions network;
  DeviceOptions device;
  std::string file, weights;
  double tolerance = 0;
  bool json = false;
};

// A language model's case: its logits within the tolerance and, in f32, the same greedy continuation.
int run_lm(const Options& options) {
  const auto backend = options.device.open();
  const LmVerification v = verify_lm(options.network.checkpoint, options.file, backend,
                                     options.device.runner_options(), options.weights);
  const bool exact = backend->compute() == DType::f32;
  const double tolerance = options.tolerance > 0 ? options.tolerance : exact ? 1e-4 : 5e-2;
  const bool ok = v.logits.relative <= tolerance && (!exact || v.greedy_equal == v.greedy_count);
  if (options.json) {
    const nlohmann::json logits{
        {"max_abs", v.logits.max_abs}, {"relative", v.logits.relative}, {"cosine", v.logits.cosine}};
    const nlohmann::json greedy{{"equal", v.greedy_equal}, {"count", v.greedy_count}};
    print_json({{"case", options.file},
                {"device", backend->name()},
                {"precision", name_of(backend->compute())},
                {"outputs", {{"logits", logits}, {"greedy", greedy}}},
                {"tolerance", tolerance},
                {"ok", ok}});
  } else {
    fmt::print("{:<10} {:>12} {:>12} {:>14}\n", "output", "max abs", "relative", "cosine");
    fmt::print("{:<10} {:>12.3e} {:>12.3e} {:>14.10f}\n", "logits", v.logits.max_abs, v.logits.relative,
               v.logits.cosine);
    fmt::print("{:<10} {} of {} tokens  {} (tolerance {:g}, {} on {})\n", "greedy", v.greedy_equal,
               v.greedy_count, ok ? "ok" : "FAILED", tolerance, name_of(backend->compute()), backend->name());
  }
  return ok ? 0 : 1;
}

int run(const Options& options) {
  if (case_kind(options.file) == "lm") return run_lm(options);
  if (!options.weights.empty()) fail("--weights: expected the case of a language model, found a policy's");
  const PolicyCase recorded = read_policy_case(options.file);
  Network network = open_network(options.network);
  const auto backend = options.device.open();
  PolicyEngine engine(network.config, network.weights, backend, options.device.runner_options());
  const Comparison c = compare(replay(engine, recorded), recorded.actions);
  const double tolerance = options.tolerance > 0              ? options.tolerance
                           : backend->compute() == DType::f32 ? 2e-3
                                                              : 2e-2;
  const bool ok = c.relative <= tolerance;
  if (options.json) {
    const nlohmann::json actions{{"max_abs", c.max_abs}, {"relative", c.relative}, {"cosine", c.cosine}};
    print_json({{"case", options.file},
                {"device", backend->name()},
                {"precision", name_of(backend->compute())},
                {"outputs", {{"actions", actions}}},
                {"tolerance", tolerance},
                {"ok", ok}});
  } else {
    fmt::print("{:<10} {:>12} {:>12} {:>14}\n", "output", "max abs", "relative", "cosine");
    fmt::print("{:<10} {:>12.3e} {:>12.3e} {:>14.10f}  {} (tolerance {:g}, {} on {})\n", "actions", c.max_abs,
               c.relative, c.cosine, ok ? "ok" : "FAILED", tolerance, name_of(backend->compute()),
               backend->name());
  }
  return ok ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("verify", "Replay a recorded case and compare with its outputs");
  options->network.add_to(command, false);
  command.add_option("case", options->file, "Case file (docs/checkpoints.md)")->required();
  command.add_option(
      "--tol", options->tolerance,
      "Largest relative error (policies: 2e-3 in f32, 2e-2 in half types; language models: 1e-4, 5e-2)");
  add_weight_format(command, options->weights);
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
