// Windows run in chunks of rows: those whose logits nobody scores only fill the cache.
#include "runtime/perplexity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace flashrt {

namespace {

constexpr int64_t kMostRows = 256;

// Rows of a chunk: chunks begin where windows and their scored parts begin, and end with the context.
int64_t chunk_rows(const PerplexityOptions& o) {
  const int64_t common = std::gcd(o.context, o.stride);
  for (int64_t rows = std::min(common, kMostRows);; --rows) {
    if (common % rows == 0) return rows;
  }
}

double negative_log_probability(std::span<const float> logits, int32_t id) {
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double(logit) - top);
  return std::log(sum) + top - double(logits[size_t(id)]);
}

class Windows {
 public:
  Windows(const LmConfig& config, const WeightSource& weights, std::shared_ptr<Backend> backend,
          const PerplexityOptions& options, const RunnerOptions& runner_options)
      : config_(config),
        weights_(weights),
        backend_(std::move(backend)),
        options_(options),
        runner_options_(runner_options),
        rows_(chunk_rows(options)),
        scoring_(build(true)) {}

  // Adds −log p of ids[known, …) given those before them; known ≥ 1.
  void score(std::span<const int32_t> ids, size_t known, Perplexity& result);

 private:
  std::unique_ptr<Runner> build(bool logits);
  void run(Runner& runner, std::span<const int32_t> ids, size_t position);

  const LmConfig& config_;
  const WeightSource& weights_;
  std::shared_ptr<Backend> backend_;
  PerplexityOptions options_;
  RunnerOptions runner_options_;
  int64_t rows_;
  std::unique_ptr<Runner> scoring_, filling_;  // with logits; without them, on the same cache
};

std::unique_ptr<Runner> Windows::build(bool logits) {
  auto program = std::make_unique<Program>(backend_->compute());
  record_language_model(*program, config_, weights_,
                        {.rows = rows_, .capacity = options_.context, .logits = logits});
  RunnerOptions options = runner_options_;
  if (!logits) options.state_of = scoring_.get();
  return std::make_unique<Runner>(backend_, std::move(program), options);
}

void Windows::run(Runner& runner, std::span<const int32_t> ids, size_t position) {
  const auto slots = runner.input("token_ids");
  std::ranges::fill(slots, std::byte{0});
  std::memcpy(slots.data(), ids.data(), ids.size_bytes());
  const auto at = int32_t(position);
  std::memcpy(runner.input("position").data(), &at, sizeof at);
  if (!runner.run()) fail_device("running the model: {}", runner.error());
}

void Windows::score(std::span<const int32_t> ids, size_t known, Perplexity& result) {
  const size_t rows = size_t(rows_), vocab = size_t(config_.vocab);
  for (size_t begin = 0; begin + 1 < ids.size(); begin += rows) {  // row r predicts token r + 1
    const auto chunk = ids.subspan(begin, std::min(rows, ids.size() - begin));
    if (begin + rows < known) {
      if (!filling_) filling_ = build(false);
      run(*filling_, chunk, begin);
      continue;
    }
    run(*scoring_, chunk, begin);
    const auto bytes = scoring_->output("logits");
    const auto* logits = reinterpret_cast<const float*>(bytes.data());
    for (size_t r = std::max(begin, known - 1); r < begin + rows && r + 1 < ids.size(); ++r) {
      const double nll = negative_log_probability({logits + (r - begin) * vocab, vocab}, ids[r + 1]);
      if (!std::isfinite(nll)) fail_device("token {} of a window: its logits are not finite", r + 1);
      result.nll += nll;
      ++result.scored;
    }
  }
}

}  // namespace

double Perplexity::value() const { return std::exp(nll / double(scored)); }

Perplexity measure_perplexity(const LmConfig& config, const WeightSource& weights,
                              std::shared_ptr<Backend> backend, std::span<const int32_t> ids,
                              const PerplexityOptions& options, const RunnerOptions& runner_options,
                              const std::function<void(const Perplexity&)>& progress) {
  if (options.context < 2) fail("--context: expected at least 2 tokens, found {}", options.context);
  if (options.stride < 1 || options.stride > options.context) {
    fail("--stride: expected 1 to {}, the context, found {}", options.context, options.stride);
  }
  if (ids.size() < 2) fail("the text has {} tokens: expected at least 2", ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config.vocab)
      fail("token {}: {} is outside the model's vocabulary of {}", i, ids[i], config.vocab);
  }
  Windows windows(config, weights, std::move(backend), options, runner_options);
  Perplexity result;
  const size_t context = size_t(options.context);
  for (size_t begin = 0, covered = 0; covered < ids.size(); begin += size_t(options.stride)) {
    const auto window = ids.subspan(begin, std::min(context, ids.size() - begin));
    windows.score(window, std::max<size_t>(covered - begin, 1), result);
    covered = begin + window.size();
    ++result.windows;
    if (progress) progress(result);
  }
  return result;
}

}  // namespace flashrt
