// flashrt bench: the latency of a policy call, host images to host actions.
#include <fmt/core.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <thread>

#include "apps/bench_lm.h"
#include "apps/command.h"
#include "apps/peers.h"
#include "base/philox.h"
#include "runtime/gpu_monitor.h"
#include "runtime/policy_inputs.h"
#include "runtime/statistics.h"

namespace flashrt::apps {

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  LmBenchOptions lm;
  NetworkOptions network;
  DeviceOptions device;
  ShapeOptions shape{.views = 2, .text_tokens = 10, .horizon = 10};
  int calls = 200, warmup = 20;
  double hz = 0;
  int replays = 0;
  bool check = false, json = false;
  std::string out, peers = kPeers;
  double bandwidth = 4.6, tensor = 790;  // TB/s, TFLOP/s of the floor
};

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// One call as a robot makes it: uint8 images and noise from host memory, actions back in host memory.
struct Call {
  Runner& runner;
  std::vector<std::byte> image;
  std::vector<float> actions;
  std::span<std::byte> image_input;
  std::span<float> noise_input;

  explicit Call(Runner& r) : runner(r), image_input(r.input("image")) {
    image.assign(image_input.begin(), image_input.end());
    const auto noise = r.input("noise");
    noise_input = {reinterpret_cast<float*>(noise.data()), noise.size() / sizeof(float)};
    actions.resize(r.output("actions").size() / sizeof(float));
  }
  double operator()(uint64_t seed) {
    const auto begin = Clock::now();
    std::memcpy(image_input.data(), image.data(), image.size());
    philox_normal(seed, noise_input);
    if (!runner.run()) fail_device("running the policy: {}", runner.error());
    std::memcpy(actions.data(), runner.output("actions").data(), actions.size() * sizeof(float));
    const double ms = ms_since(begin);
    for (float a : actions) {
      if (!std::isfinite(a)) fail_device("the policy produced an action that is not finite");
    }
    return ms;
  }
};

// Σ over lines of max(FLOP / peak, weight bytes / bandwidth), per stage, in ms.
std::map<std::string, double> floors(const Program& program, const Options& options) {
  std::map<std::string, double> floor;
  for (const Line& line : program.lines) {
    const Cost cost = program.cost(line);
    floor[program.stages[size_t(line.stage)]] +=
        1e3 * std::max(cost.flops / (options.tensor * 1e12), cost.weight_bytes / (options.bandwidth * 1e12));
  }
  return floor;
}

nlohmann::json to_json(const Percentiles& p) {
  return {{"min", p.min}, {"p50", p.p50}, {"p95", p.p95}, {"p99", p.p99}, {"max", p.max}, {"mean", p.mean}};
}

using Json = nlohmann::json;

// Back to back: host wall time of every call, and what the stages took in them.
struct Timing {
  std::vector<double> wall;
  std::map<std::string, std::vector<double>> stages;
  std::optional<GpuReading> gpu;
};

Timing time_calls(Call& call, int calls) {
  Timing t;
  const Program& program = call.runner.program();
  GpuMonitor monitor;
  for (int i = 0; i < calls; ++i) {
    t.wall.push_back(call(uint64_t(i)));
    for (size_t s = 0; s < program.stages.size(); ++s) {
      if (const float ms = call.runner.stage_ms()[s]; std::isfinite(ms))
        t.stages[program.stages[s]].push_back(double(ms));
    }
  }
  t.gpu = monitor.stop();
  return t;
}

// At a fixed rate, as a robot calls; ten seconds at most.
std::vector<double> time_paced(Call& call, int calls, double hz) {
  std::vector<double> wall;
  auto next = Clock::now();
  for (int i = 0; i < std::min(calls, int(hz * 10)); ++i) {
    std::this_thread::sleep_until(next);
    next += std::chrono::nanoseconds(int64_t(1e9 / hz));
    wall.push_back(call(uint64_t(i)));
  }
  return wall;
}

void add_stages(Json& out, Timing& timing, const Program& program, const Options& options) {
  double graph = 0, floor = 0;
  const auto floor_of = floors(program, options);
  for (auto& [stage, samples] : timing.stages) {
    const Percentiles p = percentiles(samples);
    const double f = floor_of.count(stage) ? floor_of.at(stage) : 0;
    out["stages"][stage] = {
        {"p50_ms", p.p50}, {"floor_ms", f}, {"percent_of_floor", p.p50 > 0 ? 100 * f / p.p50 : 0}};
    graph += p.p50, floor += f;
  }
  out["graph_ms"] = graph, out["floor_ms"] = floor;
  out["floor_of"] = {{"tb_per_s", options.bandwidth}, {"tflop_per_s", options.tensor}};
}

int count_different(Call& call, int replays) {
  call(0);
  const std::vector<float> first = call.actions;
  int different = 0;
  for (int i = 0; i < replays; ++i) {
    call(0);
    different += std::memcmp(first.data(), call.actions.data(), first.size() * sizeof(float)) != 0;
  }
  return different;
}

// The timed program's actions against the f32 definition on the CPU, same inputs.
Comparison compare_with_definition(Call& call, const Network& network, const PolicyShape& shape) {
  PolicyEngine definition(network.config, network.weights, Backend::open("cpu", Precision::f32));
  Runner& oracle = definition.runner(shape);
  fill_random_inputs(oracle, network.config, 0);
  philox_normal(0, {reinterpret_cast<float*>(oracle.input("noise").data()),
                    oracle.input("noise").size() / sizeof(float)});
  if (!oracle.run()) fail_device("running the definition: {}", oracle.error());
  call(0);
  const auto bytes = oracle.output("actions");
  return compare(call.actions, {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)});
}

void print_wall(const Json& wall, std::string_view what) {
  fmt::print("{:<10} p50 {:.3f}  p95 {:.3f}  p99 {:.3f}  max {:.3f} ms", what, wall["p50"].get<double>(),
             wall["p95"].get<double>(), wall["p99"].get<double>(), wall["max"].get<double>());
}

void print_report(const Json& out) {
  const double p50 = out["wall_ms"]["p50"].get<double>();
  fmt::print("{}, {} views, {} prompt tokens, horizon {}, {} steps, {} on {}\n",
             out["network"].get<std::string>(), out["views"].get<int>(), out["prompt_tokens"].get<int>(),
             out["horizon"].get<int>(), out["steps"].get<int>(), out["precision"].get<std::string>(),
             out["device"].get<std::string>());
  print_wall(out["wall_ms"], "host wall");
  fmt::print(" over {} calls ({:.1f} Hz)\n", out["calls"].get<int>(), 1e3 / p50);
  if (out.contains("paced")) {
    print_wall(out["paced"]["wall_ms"], fmt::format("at {:g} Hz", out["paced"]["hz"].get<double>()));
    fmt::print("\n");
  }
  print_peers(out.value("peers_ms", Json::object()), p50);
  for (const auto& [stage, value] : out["stages"].items()) {
    fmt::print("  {:<8} {:.3f} ms, floor {:.3f} ms ({:.0f} %)\n", stage, value["p50_ms"].get<double>(),
               value["floor_ms"].get<double>(), value["percent_of_floor"].get<double>());
  }
  const double graph = out["graph_ms"].get<double>(), floor = out["floor_ms"].get<double>();
  fmt::print("stages {:.3f} ms, floor {:.3f} ms at {:g} TB/s and {:g} TFLOP/s ({:.0f} %)\n", graph, floor,
             out["floor_of"]["tb_per_s"].get<double>(), out["floor_of"]["tflop_per_s"].get<double>(),
             100 * floor / graph);
  fmt::print(
      "{} launches, {} lines; weights {:.1f} MB, other device memory {:.1f} MB; built in {:.1f} s, first "
      "call {:.2f} ms\n",
      out["launches"].get<int>(), out["lines"].get<int>(), out["weight_bytes"].get<double>() / 1e6,
      out["memory_bytes"].get<double>() / 1e6, out["build_ms"].get<double>() / 1e3,
      out["first_call_ms"].get<double>());
  if (out.contains("gpu")) {
    const Json& gpu = out["gpu"];
    fmt::print("SM {:.0f} MHz, memory {:.0f} MHz, {:.0f} W{}\n", gpu["sm_mhz"].get<double>(),
               gpu["memory_mhz"].get<double>(), gpu["watts"].get<double>(),
               gpu["throttled"].get<bool>() ? ", THROTTLED" : "");
  }
  if (out.contains("replays")) {
    fmt::print("{} calls with one seed: {} differ in any bit\n", out["replays"]["calls"].get<int>(),
               out["replays"]["different"].get<int>());
  }
  if (out.contains("accuracy")) {
    const Json& a = out["accuracy"];
    fmt::print("against the f32 definition: cosine {:.7f}, relative {:.3e}, max {:.3e}\n",
               a["cosine"].get<double>(), a["relative"].get<double>(), a["max_abs"].get<double>());
  }
}

Json measure(const Options& options) {
  const auto start = Clock::now();
  Network network = open_network(options.network);
  const PolicyConfig& c = network.config;
  const auto backend = options.device.open();
  PolicyEngine engine(c, network.weights, backend, options.device.runner_options());
  const PolicyShape shape = options.shape.shape(c);
  Runner& runner = engine.runner(shape);
  fill_random_inputs(runner, c, 0);
  Call call(runner);
  const double build_ms = ms_since(start), first_ms = call(0);
  for (int i = 0; i < options.warmup; ++i) call(uint64_t(i));
  Timing timing = time_calls(call, options.calls);
  Json out{{"network",
            options.network.random.empty() ? options.network.checkpoint : "random " + options.network.random},
           {"device", backend->name()},
           {"precision", name_of(backend->compute())},
           {"views", shape.views},
           {"prompt_tokens", shape.text_tokens},
           {"horizon", shape.horizon},
           {"steps", c.steps},
           {"calls", options.calls},
           {"warmup", options.warmup},
           {"wall_ms", to_json(percentiles(timing.wall))},
           {"first_call_ms", first_ms},
           {"build_ms", build_ms},
           {"launches", runner.launch_count()},
           {"lines", runner.program().lines.size()},
           {"arena_bytes", runner.plan().arena_bytes},
           {"memory_bytes", runner.memory_bytes()},
           {"weight_bytes", backend->weight_bytes()},
           {"device_used_bytes", backend->device_used_bytes()}};
  add_stages(out, timing, runner.program(), options);
  if (const auto peers = peers_of(out, options.peers); !peers.empty()) out["peers_ms"] = peers;
  if (const auto& gpu = timing.gpu) {
    out["gpu"] = {{"sm_mhz", gpu->sm_mhz},
                  {"memory_mhz", gpu->memory_mhz},
                  {"watts", gpu->watts},
                  {"throttled", gpu->throttled}};
  }
  if (options.hz > 0) {
    std::vector<double> paced = time_paced(call, options.calls, options.hz);
    out["paced"] = {{"hz", options.hz}, {"wall_ms", to_json(percentiles(paced))}};
  }
  if (options.replays > 0) {
    out["replays"] = {{"calls", options.replays}, {"different", count_different(call, options.replays)}};
  }
  if (options.check) {
    const Comparison m = compare_with_definition(call, network, shape);
    out["accuracy"] = {{"cosine", m.cosine}, {"relative", m.relative}, {"max_abs", m.max_abs}};
  }
  return out;
}

int run(const Options& options) {
  const Json out = measure(options);
  if (!options.out.empty()) {
    std::ofstream file(options.out);
    if (!(file << out.dump(2) << "\n")) fail("--out {}: cannot write", options.out);
  }
  if (options.json)
    print_json(out);
  else
    print_report(out);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("bench", "Measure the latency of a policy call, host to host");
  options->network.add_to(command, true);
  options->shape.add_to(command);
  command.add_option("--calls", options->calls, "Timed calls, back to back")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command.add_option("--warmup", options->warmup, "Calls before timing")
      ->capture_default_str()
      ->check(CLI::Range(0, 100000));
  command.add_option("--hz", options->hz, "Also time calls paced at this rate")
      ->check(CLI::Range(0.1, 1000.0));
  command
      .add_option("--replays", options->replays,
                  "Repeat one seed this often and count results that differ in any bit")
      ->check(CLI::Range(0, 1000000));
  command.add_flag("--check", options->check,
                   "Compare the timed program's actions with the f32 definition on the CPU");
  command.add_option("--out", options->out, "Write the JSON here as well");
  command.add_option("--peers", options->peers, "Figures of other stacks to print beside ours")
      ->capture_default_str();
  command.add_option("--bandwidth", options->bandwidth, "Floor: memory, TB/s")->capture_default_str();
  command.add_option("--tensor", options->tensor, "Floor: arithmetic, TFLOP/s")->capture_default_str();
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  options->lm.add_to(command);
  on_run(command, [options] {
    peers_of(Json::object(), options->peers);  // a file that cannot be read is said before the work
    if (!is_language_model(options->network)) return run(*options);
    return bench_lm(options->network, options->device, options->lm, options->json, options->out,
                    options->peers);
  });
}

}  // namespace flashrt::apps
