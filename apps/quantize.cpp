// flashrt quantize: a language model's checkpoint with its matrices in a packed format.
#include "runtime/quantize.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "apps/generate.h"
#include "base/threads.h"
#include "runtime/weight_formats.h"

namespace flashrt::apps {

namespace {

struct Options {
  std::string checkpoint, weights, out;
  int threads = 0;
  bool json = false;
};

nlohmann::json as_json(const Options& options, const QuantizeReport& report) {
  nlohmann::json matrices = nlohmann::json::array();
  for (const QuantizeReport::Matrix& m : report.matrices) {
    matrices.push_back({{"name", m.name},
                        {"shape", {m.rows, m.cols}},
                        {"relative_error", m.relative_error},
                        {"bytes", m.bytes}});
  }
  return {{"checkpoint", options.checkpoint},
          {"out", options.out},
          {"weights", options.weights},
          {"bytes_before", report.bytes_before},
          {"bytes_after", report.bytes_after},
          {"kept", report.kept},
          {"relative_error", report.relative_error},
          {"matrices", std::move(matrices)}};
}

int run(const Options& options) {
  set_thread_count(options.threads);
  const quant::Format format = parse_weight_format(options.weights);
  const LmCheckpoint checkpoint = load_lm_checkpoint(options.checkpoint);
  const bool person = isatty(2) != 0;
  const QuantizeReport report =
      quantize_checkpoint(checkpoint, format, options.out, [&](size_t done, size_t total) {
        if (person) fmt::print(stderr, "\r{:.2f} of {:.2f} GB ", double(done) / 1e9, double(total) / 1e9);
      });
  if (person) fmt::print(stderr, "\n");
  if (options.json) {
    print_json(as_json(options, report));
    return 0;
  }
  const auto worst = std::ranges::max_element(report.matrices, {}, &QuantizeReport::Matrix::relative_error);
  fmt::print("{}: {} matrices in {}, {} tensors as they were; {:.3f} GB instead of {:.3f} GB\n", options.out,
             report.matrices.size(), options.weights, report.kept, double(report.bytes_after) / 1e9,
             double(report.bytes_before) / 1e9);
  fmt::print("relative error {:.5f}", report.relative_error);
  if (worst != report.matrices.end()) fmt::print(", at most {:.5f} ({})", worst->relative_error, worst->name);
  fmt::print("\n");
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("quantize", "Write a language model with packed weights");
  command.add_option("checkpoint", options->checkpoint, "Checkpoint directory (Hugging Face layout)")
      ->required();
  command
      .add_option("--weights", options->weights, "fp8, int8, int4 (groups of 128) or nvfp4 (blocks of 16)")
      ->required();
  command.add_option("--out", options->out, "Directory to write, new or empty")->required();
  command.add_option("--threads", options->threads, "CPU threads (0: all)")->check(CLI::Range(0, 1024));
  command.add_flag("--json", options->json, "Print JSON: the error of every matrix");
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
