// flashrt perplexity: how well a language model predicts a file of text.
#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <iterator>

#include "apps/generate.h"
#include "base/mapped_file.h"
#include "io/tokenizer_utf8.h"
#include "runtime/perplexity.h"
#include "runtime/weight_formats.h"

namespace flashrt::apps {

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string checkpoint, file, weights;
  DeviceOptions device;
  int64_t context = 0, stride = 0;
  bool json = false;
};

std::string read_text(const std::string& file) {
  const std::string text =
      file == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : read_text_file(file);
  if (const size_t bad = invalid_utf8_at(text); bad < text.size()) {
    fail("{}: byte {}: expected text in UTF-8, found 0x{:02x}", file == "-" ? "stdin" : file, bad,
         uint8_t(text[bad]));
  }
  return text;
}

// As transformers' tokenizer(text): the names of special tokens in the text are those tokens.
std::vector<int32_t> tokens_of(const Tokenizer& tokenizer, const std::string& text) {
  const auto prefix = tokenizer.prefix(), suffix = tokenizer.suffix();
  std::vector<int32_t> ids(prefix.begin(), prefix.end());
  const std::vector<int32_t> body = tokenizer.encode_with_special(text);
  ids.insert(ids.end(), body.begin(), body.end());
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

void report(const Options& options, const PerplexityOptions& windows, const Perplexity& p, size_t tokens,
            size_t bytes, double seconds, const Backend& backend) {
  const double bits = p.nll / std::log(2.0) / double(bytes);
  if (options.json) {
    print_json({{"perplexity", p.value()},
                {"nll", p.nll / double(p.scored)},
                {"bits_per_byte", bits},
                {"tokens", tokens},
                {"scored", p.scored},
                {"context", windows.context},
                {"stride", windows.stride},
                {"windows", p.windows},
                {"seconds", seconds},
                {"device", backend.name()},
                {"precision", name_of(backend.compute())}});
    return;
  }
  fmt::print("perplexity {:.4f}: {} tokens scored, {:.4f} nats a token, {:.4f} bits a byte\n", p.value(),
             p.scored, p.nll / double(p.scored), bits);
  fmt::print("{} windows of {} tokens every {}, {:.1f} s, {} on {}\n", p.windows, windows.context,
             windows.stride, seconds, name_of(backend.compute()), backend.name());
}

int run(const Options& options) {
  const std::string text = read_text(options.file);
  const LmCheckpoint checkpoint = load_lm_checkpoint(options.checkpoint);
  const Tokenizer tokenizer = Tokenizer::load(options.checkpoint);
  require_vocabulary(checkpoint, tokenizer);
  const std::vector<int32_t> ids = tokens_of(tokenizer, text);
  PerplexityOptions windows{.context = options.context, .stride = options.stride};
  if (windows.context == 0) windows.context = std::min<int64_t>(checkpoint.config.positions, 4096);
  if (windows.stride == 0) windows.stride = std::max<int64_t>(windows.context / 2, 1);
  if (windows.context > checkpoint.config.positions) {
    log_warn("--context {}: the model was made for {} positions", windows.context,
             checkpoint.config.positions);
  }
  const auto backend = options.device.open();
  const Clock::time_point begin = Clock::now();
  Clock::time_point told = begin;
  const Perplexity result = measure_perplexity(
      checkpoint.config, lm_weights(checkpoint, options.weights), backend, ids, windows,
      options.device.runner_options(), [&](const Perplexity& so_far) {
        if (Clock::now() - told < std::chrono::seconds(2)) return;
        told = Clock::now();
        log_info("{} of {} tokens: perplexity {:.4f}", so_far.scored, ids.size() - 1, so_far.value());
      });
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  report(options, windows, result, ids.size(), text.size(), seconds, *backend);
  return 0;
}

}  // namespace

void add_perplexity(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("perplexity", "How well a language model predicts a text");
  command.add_option("checkpoint", options->checkpoint, "Checkpoint directory (Hugging Face layout)")
      ->required();
  command.add_option("file", options->file, "The text, UTF-8; - reads it from stdin")->required();
  command
      .add_option("--context", options->context, "Tokens of a window (0: the model's context, at most 4096)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  command
      .add_option(
          "--stride", options->stride,
          "Tokens between two windows, at most the context; fewer give each token more to see and take "
          "longer (0: half the context)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  add_weight_format(command, options->weights);
  command.add_flag("--json", options->json, "Print JSON");
  options->device.add_to(command);
  on_run(command, [options] { return run(*options); });
}

}  // namespace flashrt::apps
