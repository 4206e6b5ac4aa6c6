// What the subcommands share: options of the device, opening a checkpoint, printing.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "io/policy_checkpoint.h"
#include "runtime/backend.h"
#include "runtime/policy_engine.h"

namespace flashrt::apps {

struct DeviceOptions {
  std::string device = "auto", precision = "auto";
  bool fuse = true;
  int threads = 0;
  std::vector<std::string> implementations;  // "op=name"

  void add_to(CLI::App& app);
  std::shared_ptr<Backend> open() const;
  RunnerOptions runner_options() const;
};

// --checkpoint or --random: a network to build programs of.
struct NetworkOptions {
  std::string checkpoint, random;
  uint64_t seed = 0;
  int64_t steps = 0;  // 0: the checkpoint's

  void add_to(CLI::App& app, bool allow_random);
};

// --views, --prompt-tokens, --horizon: the shapes of a program. 0: as the checkpoint says.
struct ShapeOptions {
  int64_t views = 0, text_tokens = 0, horizon = 0;

  void add_to(CLI::App& app);
  PolicyShape shape(const PolicyConfig& config) const;
};

struct Network {
  std::unique_ptr<PolicyCheckpoint> checkpoint;  // null for random weights
  PolicyConfig config;
  WeightSource weights;
};
Network open_network(const NetworkOptions& options);

// The published sizes of pi0 and pi05 (specs of openpi), for --random and synth.
PolicyConfig published_config(const std::string& family);

// Registers a subcommand whose callback returns the exit code.
using Run = std::function<int()>;
void on_run(CLI::App& app, Run run);
int run_selected();

void print_json(const nlohmann::json& document);

void add_inspect(CLI::App& app);
void add_verify(CLI::App& app);
void add_run(CLI::App& app);
void add_bench(CLI::App& app);
void add_bench_op(CLI::App& app);
void add_tune(CLI::App& app);
void add_profile(CLI::App& app);
void add_diff(CLI::App& app);
void add_synth(CLI::App& app);
void add_demo(CLI::App& app);
void add_eval(CLI::App& app);

}  // namespace flashrt::apps
