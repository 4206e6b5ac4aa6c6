// flashrt bench-op: times the benchmark cases of single ops: one graph of many calls, weights out of L2.
#include <fmt/core.h>

#include <algorithm>
#include <regex>
#include <thread>

#include "apps/command.h"
#include "cases/cases.h"
#include "ops/attention.h"
#include "runtime/statistics.h"
#ifdef FLASHRT_WITH_CUDA
#include "cuda/executor.h"
#endif

namespace flashrt::apps {

namespace {

struct Options {
  DeviceOptions device;
  std::vector<std::string> ops;
  std::string match = ".*";
  double cold_mb = 256;  // weights rotate through this much memory; L2 holds 50 MB
  int repeats = 15;
  bool json = false;
  double bandwidth = 4.6, tensor = 790;  // TB/s, TFLOP/s of the roofline
};

#ifdef FLASHRT_WITH_CUDA

// Appends a copy of line 0 with weights and results of its own; activations are shared, as their producer
// left them.
void repeat_line(Program& p, int copy) {
  Line line = p.lines.at(0);
  for (int& id : line.in) {
    if (id < 0 || p.info(id).kind != Kind::weight) continue;
    Weight weight = *p.info(id).weight;
    weight.name += fmt::format(" of copy {}", copy);
    const DType dtype = p.info(id).dtype;
    id = p.weight(std::move(weight)).id;
    p.tensors[size_t(id)].dtype = dtype;
  }
  for (int& id : line.out) {
    const TensorInfo info = p.info(id);
    id = info.base >= 0 ? p.version(p.handle(p.root(id))).id : p.temp(info.shape, info.dtype).id;
  }
  p.lines.push_back(std::move(line));
}

void fill_inputs(cuda::Executor& executor, const CaseRecorder& recorder) {
  for (const auto& input : recorder.inputs) input.fill(executor.input(input.name));
}

// What a library needs to compute the same, for the script that times libraries.
nlohmann::json shape_of(const Program& p, const Line& line) {
  const Shape x = p.info(line.in[0]).shape;
  if (line.op == &kAttentionOp) {
    const auto a = line.attrs<AttentionAttrs>();
    return {{"rows", x.rows / a.segments},
            {"segments", a.segments},
            {"heads", a.heads},
            {"kv_heads", a.kv_heads},
            {"head_dim", a.head_dim},
            {"causal", a.causal != 0},
            {"keys", a.keys},
            {"lead_rows", a.lead_rows}};
  }
  const Shape w = p.info(line.in.size() > 1 && line.in[1] >= 0 ? line.in[1] : line.in[0]).shape;
  return {{"m", x.rows}, {"n", w.rows}, {"k", w.cols}};
}

// Null when no implementation that --use allows computes the case.
nlohmann::json time_case(const Case& c, const Options& options, const cuda::Device& device, DType compute) {
  Program program(compute);
  CaseRecorder recorder(program, 1);
  c.record(recorder);
  const auto used = options.device.runner_options().force;
  const std::map<std::string, std::string> force(used.begin(), used.end());
  if (cuda::choose(program, program.lines.at(0), device, force) == nullptr) return {};
  const Cost cost = program.cost(program.lines.at(0));
  const int copies = std::clamp(int(options.cold_mb * 1e6 / std::max(cost.weight_bytes, 1.0)) + 1, 3, 100);
  for (int i = 1; i < copies; ++i) repeat_line(program, i);
  cuda::WeightStore weights;
  cuda::Executor executor(program, device, weights, {.force = force});
  fill_inputs(executor, recorder);
  std::vector<double> us;
  for (int i = 0; i < options.repeats + 3; ++i) {
    if (const cudaError_t code = executor.run(); code != cudaSuccess)
      fail_device("{} {}: {}", c.op, c.name, cudaGetErrorString(code));
    if (i >= 3) us.push_back(1e3 * double(executor.stage_ms()[0]) / copies);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the card's power budget recovers
  }
  const Percentiles p = percentiles(us);
  const double seconds = p.p50 / 1e6;
  const double floor =
      std::max(cost.bytes / (options.bandwidth * 1e12), cost.flops / (options.tensor * 1e12));
  int64_t length = 0;  // keys that a device operand counts, as the case's name says
  for (const auto& input : recorder.inputs) {
    if (program.info(input.id).dtype != DType::i32) continue;
    int32_t value = 0;
    input.fill(std::as_writable_bytes(std::span(&value, 1)));
    length = value;
  }
  nlohmann::json row{{"op", c.op},
                     {"name", c.name},
                     {"implementation", executor.implementation(0)},
                     {"us", p.p50},
                     {"us_min", p.min},
                     {"copies", copies},
                     {"gb_per_s", cost.bytes / seconds / 1e9},
                     {"tflop_per_s", cost.flops / seconds / 1e12},
                     {"roofline_percent", 100 * floor / seconds},
                     {"shape", shape_of(program, program.lines[0])}};
  if (c.op == "attention") row["shape"]["keys"] = row["shape"]["keys"].get<int64_t>() + length;
  return row;
}

int run(const Options& options) {
  const auto backend = options.device.open();
  if (!backend->on_gpu()) fail("bench-op: needs a GPU, found {}", backend->name());
  const cuda::Device device = *cuda::probe().device;
  const std::regex match(options.match);
  nlohmann::json rows = nlohmann::json::array();
  for (const Case& c : all_cases()) {
    if (!c.bench || !std::regex_search(c.name, match)) continue;
    if (!options.ops.empty() && std::ranges::find(options.ops, c.op) == options.ops.end()) continue;
    const nlohmann::json row = time_case(c, options, device, backend->compute());
    if (row.is_null()) {
      log_warn("{} {}: no implementation", c.op, c.name);
      continue;
    }
    rows.push_back(row);
    if (options.json) continue;
    fmt::print("{:<10} {:<52} {:<10} {:>9.2f} us {:>8.0f} GB/s {:>7.1f} TFLOP/s {:>5.1f} %\n", c.op, c.name,
               row["implementation"].get<std::string>(), row["us"].get<double>(),
               row["gb_per_s"].get<double>(), row["tflop_per_s"].get<double>(),
               row["roofline_percent"].get<double>());
    std::fflush(stdout);
  }
  if (options.json)
    print_json({{"device", backend->name()}, {"precision", name_of(backend->compute())}, {"rows", rows}});
  return 0;
}

#else

int run(const Options&) { fail("bench-op: this is a CPU build"); }

#endif

}  // namespace

void add_bench_op(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("bench-op", "Time the benchmark cases of single ops, weights cold");
  command.add_option("op", options->ops, "linear, attention, …; none: all");
  command.add_option("--match", options->match, "Only cases whose name this regular expression finds")
      ->capture_default_str()
      ->check([](const std::string& text) {
        try {
          std::regex compiled(text);
        } catch (const std::regex_error& error) {
          return std::string(error.what());
        }
        return std::string();
      });
  command.add_option("--cold-mb", options->cold_mb, "Memory that the weights rotate through")
      ->capture_default_str();
  command.add_option("--repeats", options->repeats, "Timed graph launches")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command.add_option("--bandwidth", options->bandwidth, "Roofline: memory, TB/s")->capture_default_str();
  command.add_option("--tensor", options->tensor, "Roofline: arithmetic, TFLOP/s")->capture_default_str();
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
