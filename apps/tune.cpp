// flashrt tune: times the choices of every linear inside the whole program and writes the faster ones as rows
// of a tuning table. A choice is judged where it runs: in the captured graph, weights from memory, between
// its neighbours.
#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "apps/command.h"
#include "runtime/policy_inputs.h"
#include "runtime/statistics.h"
#ifdef FLASHRT_WITH_CUDA
#include "cuda/device.h"
#include "cuda/linear_tensor_core.h"
#endif

namespace flashrt::apps {

namespace {

struct Options {
  NetworkOptions network;
  DeviceOptions device;
  ShapeOptions shape{.views = 2, .text_tokens = 10, .horizon = 10};
  int calls = 15, most = 24;
  double gain = 0.5;  // percent of the stage that a choice must save to be written
  std::string stage, implementation, table;
};

#ifdef FLASHRT_WITH_CUDA

using cuda::TunedRow;

std::string numbers(std::span<const int64_t> values) {  // without the zeros at the end
  size_t count = values.size();
  while (count > 1 && values[count - 1] == 0) --count;
  return fmt::format("{}", fmt::join(values.first(count), ","));
}

std::string text_of(const TunedRow& row) {
  const std::vector<int64_t> tactic(row.tactic.begin(), row.tactic.end());
  return fmt::format("{}\t{}\t{}\t{}\t{}", row.op, row.implementation, row.variant, numbers(row.shape),
                     numbers(tactic));
}

class Tuner {
 public:
  explicit Tuner(const Options& options)
      : options_(options), network_(open_network(options.network)), backend_(options.device.open()) {}

  int run() {
    if (!backend_->on_gpu()) fail("tune: needs a GPU, found {}", backend_->name());
    if (options_.calls < 3) fail("--calls: expected at least 3, found {}", options_.calls);
    const cuda::Device device = *cuda::probe().device;
    PolicyEngine engine(network_.config, network_.weights, backend_, options_.device.runner_options());
    Runner& runner = engine.runner(options_.shape.shape(network_.config));
    const Program& program = runner.program();
    std::set<std::string> seen;
    for (size_t i = 0; i < program.lines.size(); ++i) {
      const cuda::Problem problem{.program = program, .line = program.lines[i], .device = device};
      if (!wanted(program, i, runner.implementation(i))) continue;
      const auto rows = cuda::linear_tactics(problem, runner.implementation(i));
      if (rows.size() < 2 ||
          !seen.insert(text_of({rows[0].op, rows[0].implementation, rows[0].variant, rows[0].shape})).second)
        continue;
      tune(rows, size_t(program.lines[i].stage), program.stages[size_t(program.lines[i].stage)]);
    }
    report();
    return 0;
  }

 private:
  bool wanted(const Program& program, size_t i, const std::string& implementation) const {
    const Line& line = program.lines[i];
    return std::string_view(line.op->name) == "linear" &&
           (options_.stage.empty() || program.stages[size_t(line.stage)] == options_.stage) &&
           (options_.implementation.empty() || implementation == options_.implementation);
  }

  // Median ms of the stage in a program built with the rows on trial; infinite when a row cannot run.
  double measure(size_t stage) {
    try {
      PolicyEngine engine(network_.config, network_.weights, backend_, options_.device.runner_options());
      Runner& runner = engine.runner(options_.shape.shape(network_.config));
      fill_random_inputs(runner, network_.config, 0);
      std::vector<double> ms;
      for (int i = 0; i < options_.calls + 3; ++i) {
        if (!runner.run()) fail_device("tune: {}", runner.error());
        if (i >= 3) ms.push_back(double(runner.stage_ms()[stage]));
      }
      return percentiles(ms).p50;
    } catch (const Error& error) {
      log_warn("{}", error.what());
      return std::numeric_limits<double>::infinity();
    }
  }

  double measure(size_t stage, const TunedRow& row) {
    cuda::trial_rows().push_back(row);
    const double ms = measure(stage);
    cuda::trial_rows().pop_back();
    return ms;
  }

  void tune(const std::vector<TunedRow>& rows, size_t stage, const std::string& name) {
    std::vector<std::pair<double, size_t>> times;
    double present = measure(stage);
    for (size_t i = 1; i < std::min(rows.size(), size_t(options_.most)); ++i) {
      times.emplace_back(measure(stage, rows[i]), i);
    }
    std::ranges::sort(times);
    // The best of many single timings flatters itself: the first three again, each beside the present choice.
    size_t best = 0;
    double best_ratio = 1 - options_.gain / 100;
    for (size_t t = 0; t < std::min<size_t>(3, times.size()); ++t) {
      const TunedRow& row = rows[times[t].second];
      const double before = measure(stage), after = std::max(measure(stage, row), measure(stage, row));
      present = std::min(present, before);
      if (after / before < best_ratio) best = times[t].second, best_ratio = after / before;
    }
    fmt::print("{:<7} {:.3f} ms  {}  ", name, present, text_of(rows[0]));
    if (best == 0) {
      fmt::print("kept ({} tried)\n", times.size());
    } else {
      fmt::print("-> {} ({:+.1f} %)\n", text_of(rows[best]), 100 * (best_ratio - 1));
      cuda::trial_rows().push_back(rows[best]);
      found_.push_back(rows[best]);
    }
    std::fflush(stdout);
  }

  // The table with the found rows in place of those for the same problems, sorted.
  void report() const {
    if (options_.table.empty() || found_.empty()) return;
    std::vector<std::string> comments;
    std::set<std::string> lines;
    std::ifstream file(options_.table);
    if (!file) fail("--table {}: cannot read", options_.table);
    for (std::string line; std::getline(file, line);) {
      const bool replaced = std::ranges::any_of(found_, [&](const TunedRow& row) {
        const std::string text = text_of(row);
        return line.starts_with(text.substr(0, text.rfind('\t') + 1));
      });
      if (line.starts_with('#'))
        comments.push_back(line);
      else if (!line.empty() && !replaced)
        lines.insert(line);
    }
    for (const TunedRow& row : found_) lines.insert(text_of(row));
    std::ofstream out(options_.table);
    for (const std::string& line : comments) out << line << "\n";
    for (const std::string& line : lines) out << line << "\n";
    if (!out) fail("--table {}: cannot write", options_.table);
  }

  Options options_;
  Network network_;
  std::shared_ptr<Backend> backend_;
  std::vector<TunedRow> found_;
};

int run(const Options& options) { return Tuner(options).run(); }

#else

int run(const Options&) { fail("tune: this is a CPU build"); }

#endif

}  // namespace

void add_tune(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand(
      "tune", "Time the choices of every linear inside the program, and write the faster ones");
  options->network.add_to(command, true);
  options->shape.add_to(command);
  command.add_option("--stage", options->stage, "Only lines of this stage: vision, prefix or action");
  command.add_option("--implementation", options->implementation, "Only lines of this one: stream or wgmma");
  command.add_option("--table", options->table, "Rewrite this file, e.g. tune/h200.tsv");
  command.add_option("--calls", options->calls, "Timed calls of each program")
      ->capture_default_str()
      ->check(CLI::Range(3, 1000));
  command.add_option("--most", options->most, "Choices to try for a problem")
      ->capture_default_str()
      ->check(CLI::Range(2, 1000));
  command.add_option("--gain", options->gain, "Percent of the stage that a choice must save to be taken")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
