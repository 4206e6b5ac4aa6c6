// flashrt profile: every line of the tape, timed alone, against the roofline.
#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "apps/command.h"
#include "runtime/policy_inputs.h"

namespace flashrt::apps {

namespace {

struct Options {
  NetworkOptions network;
  DeviceOptions device;
  ShapeOptions shape{.views = 2};
  int repeats = 5, top = 40;
  bool all = false, json = false;
  double bandwidth = 4.6, tensor = 790;  // TB/s, TFLOP/s
};

int run(const Options& options) {
  Network network = open_network(options.network);
  PolicyEngine engine(network.config, network.weights, options.device.open(),
                      options.device.runner_options());
  const PolicyConfig& c = network.config;
  Runner& runner = engine.runner(options.shape.shape(c));
  fill_random_inputs(runner, c, 0);
  const std::vector<float> ms = runner.profile(options.repeats);
  std::vector<size_t> order(ms.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (!options.all) std::ranges::stable_sort(order, [&](size_t a, size_t b) { return ms[a] > ms[b]; });
  const double total = std::accumulate(ms.begin(), ms.end(), 0.0);
  nlohmann::json rows = nlohmann::json::array();
  for (size_t i : order) {
    const Line& line = runner.program().lines[i];
    const Cost cost = runner.program().cost(line);
    const double seconds = double(ms[i]) / 1e3;
    const double floor =
        std::max(cost.bytes / (options.bandwidth * 1e12), cost.flops / (options.tensor * 1e12));
    const Shape shape = runner.program().info(line.out[0]).shape;
    rows.push_back({{"line", i},
                    {"op", line.op->name},
                    {"at", to_string(line.at)},
                    {"stage", runner.program().stages[size_t(line.stage)]},
                    {"implementation", runner.implementation(i)},
                    {"rows", shape.rows},
                    {"cols", shape.cols},
                    {"attributes", line.op->describe != nullptr ? line.op->describe(line) : ""},
                    {"us", double(ms[i]) * 1e3},
                    {"gb_per_s", cost.bytes / seconds / 1e9},
                    {"tflop_per_s", cost.flops / seconds / 1e12},
                    {"roofline_percent", 100 * floor / seconds}});
  }
  if (options.json) {
    print_json({{"device", engine.backend().name()}, {"total_ms", total}, {"lines", rows}});
    return 0;
  }
  fmt::print("{} on {}: {} lines, {:.3f} ms when each is launched alone\n", name_of(c.family),
             engine.backend().name(), ms.size(), total);
  fmt::print("{:>5} {:>9} {:>8} {:>8} {:>6}  {:<13} {:<12} {:>13}  {}\n", "line", "us", "GB/s", "TFLOP/s",
             "roof%", "op", "kernel", "result", "at");
  int shown = 0;
  for (const auto& r : rows) {
    if (!options.all && shown++ == options.top) break;
    fmt::print("{:>5} {:>9.2f} {:>8.0f} {:>8.1f} {:>6.1f}  {:<13} {:<12} {:>6}x{:<6}  {} {} {}\n",
               r["line"].get<size_t>(), r["us"].get<double>(), r["gb_per_s"].get<double>(),
               r["tflop_per_s"].get<double>(), r["roofline_percent"].get<double>(),
               r["op"].get<std::string>(), r["implementation"].get<std::string>(), r["rows"].get<int64_t>(),
               r["cols"].get<int64_t>(), r["at"].get<std::string>(), r["stage"].get<std::string>(),
               r["attributes"].get<std::string>());
  }
  return 0;
}

}  // namespace

void add_profile(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("profile", "Time every line of the program alone, against the roofline");
  options->network.add_to(command, true);
  options->shape.add_to(command);
  command.add_option("--repeats", options->repeats, "Runs; the median counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command.add_option("--top", options->top, "Lines to print, slowest first")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command.add_flag("--all", options->all, "Every line, in program order");
  command.add_option("--bandwidth", options->bandwidth, "Roofline: memory, TB/s")->capture_default_str();
  command.add_option("--tensor", options->tensor, "Roofline: arithmetic, TFLOP/s")->capture_default_str();
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
