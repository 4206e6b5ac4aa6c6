// flashrt diff: the device against the CPU definition after every line; the first divergence names the
// model's line.
#include <fmt/core.h>

#include "apps/command.h"
#include "runtime/policy_inputs.h"

namespace flashrt::apps {

namespace {

struct Options {
  NetworkOptions network;
  DeviceOptions device;
  std::string file;
  ShapeOptions shape{.views = 2};
  double tolerance = 0.05;
  bool all = false, json = false;
};

bool is_cache(const Program& program, int id) {
  const Kind kind = program.info(program.root(id)).kind;
  return kind == Kind::buffer || kind == Kind::state;  // holds rows that no line has written yet
}

int run(const Options& options) {
  Network network = open_network(options.network);
  const auto device = options.device.open(), cpu = Backend::open("cpu", Precision::f32);
  RunnerOptions tested = options.device.runner_options(), oracle = tested;
  tested.poison = oracle.poison = true;
  oracle.fuse_for = device.get();
  PolicyEngine engine(network.config, network.weights, device, tested),
      definition(network.config, network.weights, cpu, oracle);
  const auto prepared = [&](PolicyEngine& e) -> Runner& {
    if (!options.file.empty()) return load_case(e, read_policy_case(options.file));
    const PolicyConfig& c = network.config;
    Runner& runner = e.runner(options.shape.shape(c));
    fill_random_inputs(runner, c, 0);
    return runner;
  };
  Runner &a = prepared(engine), &b = prepared(definition);
  if (a.program().lines.size() != b.program().lines.size())
    fail_device("diff: the two programs differ in length");
  a.begin();
  b.begin();
  nlohmann::json rows = nlohmann::json::array();
  std::string first;
  double worst = 0;
  for (size_t i = 0; i < a.program().lines.size(); ++i) {
    a.step(i);
    b.step(i);
    const Line &line = a.program().lines[i], &other = b.program().lines[i];
    for (size_t j = 0; j < line.out.size(); ++j) {
      if (is_cache(a.program(), line.out[j])) continue;
      if (line.attr_bytes != other.attr_bytes || line.op != other.op)
        fail_device("diff: line {} differs in the two programs", i);
      if (j == 0 && line.out.size() == 3 && a.program().info(line.out[0]).shape.rows == 1)
        continue;  // an absent q
      const Comparison c = compare(a.read(line.out[j]), b.read(other.out[j]));
      worst = std::max(worst, c.relative);
      const bool diverged = !(c.relative <= options.tolerance);
      if (diverged && first.empty()) {
        first =
            fmt::format("line {}: {} at {} ({})", i, line.op->name, to_string(line.at), a.implementation(i));
      }
      if (options.json || options.all || diverged) {
        rows.push_back({{"line", i},
                        {"op", line.op->name},
                        {"at", to_string(line.at)},
                        {"implementation", a.implementation(i)},
                        {"max_abs", c.max_abs},
                        {"relative", c.relative},
                        {"cosine", c.cosine}});
      }
    }
  }
  if (options.json) {
    print_json({{"device", device->name()},
                {"precision", name_of(device->compute())},
                {"tolerance", options.tolerance},
                {"worst_relative", worst},
                {"first_divergence", first},
                {"lines", rows}});
  } else {
    for (const auto& r : rows) {
      fmt::print("{:>5} {:<14} {:<18} {:<14} relative {:.3e}  max {:.3e}\n", r["line"].get<size_t>(),
                 r["op"].get<std::string>(), r["at"].get<std::string>(),
                 r["implementation"].get<std::string>(),
                 r["relative"].is_number() ? r["relative"].get<double>() : NAN,
                 r["max_abs"].is_number() ? r["max_abs"].get<double>() : NAN);
    }
    fmt::print("{} lines, {} on {} against the f32 definition: worst relative error {:.3e}\n",
               a.program().lines.size(), name_of(device->compute()), device->name(), worst);
    fmt::print("{}\n", first.empty() ? "no divergence" : "first divergence: " + first);
  }
  return first.empty() ? 0 : 1;
}

}  // namespace

void add_diff(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("diff", "Compare the device with the CPU definition after every line");
  options->network.add_to(command, true);
  command.add_option("--case", options->file, "Inputs of a case file instead of random ones");
  options->shape.add_to(command);
  command.add_option("--tol", options->tolerance, "Relative error that counts as a divergence")
      ->capture_default_str();
  command.add_flag("--all", options->all, "Print every line, not only those that diverge");
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
