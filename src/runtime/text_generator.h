// A language model in use: programs that share one cache, and the loop from prompt to answer.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/lm_checkpoint.h"
#include "io/tokenizer.h"
#include "models/language_model.h"
#include "runtime/backend.h"
#include "runtime/sampler.h"

namespace flashrt {

// Views of a checkpoint's tensors; the checkpoint must outlive the programs.
WeightSource checkpoint_weights(const LmCheckpoint& checkpoint);

// Tokens in, logits out. The cache holds `context` positions; what it holds is remembered, so that a prompt
// that begins alike needs only its end computed.
class LmEngine {
 public:
  LmEngine(LmConfig config, WeightSource weights, std::shared_ptr<Backend> backend, int64_t context,
           RunnerOptions options = {});

  // Appends tokens to the cache. Returns the logits after the last one, valid until the next call. Throws
  // Error(input) when the ids are none, outside the vocabulary, or more than the room that is left.
  std::span<const float> extend(std::span<const int32_t> ids);
  void rewind(int64_t position);  // forgets all behind

  // A continuation, chosen where the logits are: a step's token feeds the next step there, which already runs
  // while the host looks at the token. `begin` appends tokens as `extend` does (`prompt`: what penalties
  // count as seen); then each `next` gives one token, and starts the step after it when there is to be `more`
  // and the cache has room; `end` lets go of what runs.
  struct Chosen {
    int32_t id = 0;
    double log_probability = 0;
    bool more = false;  // another step was started
  };
  void begin(std::span<const int32_t> ids);  // the likeliest
  void begin(std::span<const int32_t> ids, const Sampler& sampler, std::span<const int32_t> prompt);
  Chosen next(bool more);
  void end();
  Runner& likeliest_runner() { return runner(kLikeliest); }
  MemoryUse memory() const;  // of all programs built so far
  // The logits of every token of a text by itself, [ids, vocab]; the cache is not touched.
  std::vector<float> all_logits(std::span<const int32_t> ids);

  std::span<const int32_t> tokens() const { return tokens_; }  // in the cache
  int64_t position() const { return int64_t(tokens_.size()); }
  int64_t context() const { return context_; }
  const LmConfig& config() const { return config_; }

 private:
  // A decode program that ends with the choice of the token; the other programs are named by their rows.
  static constexpr int64_t kLikeliest = 0, kSampled = -1;
  Runner& runner(int64_t which);
  void begin(int64_t which, std::span<const int32_t> ids);
  void prefill(std::span<const int32_t>& ids);  // all but the last
  void run(Runner& runner, std::span<const int32_t> ids);
  void require_known(std::span<const int32_t> ids) const;
  void require_fitting(std::span<const int32_t> ids) const;

  LmConfig config_;
  WeightSource weights_;
  std::shared_ptr<Backend> backend_;
  int64_t context_;
  RunnerOptions options_;
  std::map<int64_t, std::unique_ptr<Runner>>
      runners_;                // by rows; 1: decode, the only one whose results are logits
  Runner* running_ = nullptr;  // the program of the step that runs
  std::vector<int32_t> tokens_;
};

struct TextOptions {
  SamplerOptions sampler;
  int64_t max_tokens = 256;
  std::vector<std::string> stop;    // the answer ends before the first of them
  std::vector<int32_t> end_tokens;  // and at one of these
};

enum class StopReason { end_token, stop_string, token_limit, context_full, cancelled };
const char* name_of(StopReason reason);

struct TextResult {
  std::vector<int32_t> ids;  // of the answer, without the end token
  std::vector<double> log_probabilities;
  std::string text;
  StopReason reason = StopReason::token_limit;
  int64_t prompt_tokens = 0, reused_tokens = 0;
  double first_token_ms = 0, decode_ms = 0;  // decode: all tokens after the first
};

// Answers a prompt. `emit` is given the text as it becomes certain, in whole code points; `cancel` ends the
// answer between two tokens. Throws Error(input) when the prompt is empty or longer than the context.
TextResult generate(LmEngine& engine, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const TextOptions& options, const std::function<void(std::string_view)>& emit = {},
                    const std::atomic<bool>* cancel = nullptr);

// Text that comes in pieces, up to the first stop string; what may become one is held back.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stop);
  std::string push(std::string_view text);  // the text that is certain
  std::string finish();                     // the rest, when no more text comes
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace flashrt
