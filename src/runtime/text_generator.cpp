// Prefill in buckets, decode one by one, and the answer's text with its ends.
#include "runtime/text_generator.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "io/tokenizer_stream.h"
#include "ops/sample.h"
#include "runtime/weight_formats.h"

namespace flashrt {

namespace {

// Rows of the prefill programs. A prompt's last piece is padded to the next of them.
constexpr int64_t kBuckets[] = {16, 128, 512};

template <class T>
std::span<T> as(std::span<std::byte> bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

std::span<const float> logits_of(const Runner& runner) {
  const auto bytes = runner.output("logits");
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

// The smallest bucket that holds `count` tokens, else the largest; 1 when none has room.
int64_t bucket_for(int64_t count, int64_t room) {
  int64_t best = 1;
  for (int64_t bucket : kBuckets) {
    if (bucket > room) break;
    best = bucket;
    if (bucket >= count) break;
  }
  return count <= 1 ? 1 : best;
}

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

WeightSource checkpoint_weights(const LmCheckpoint& checkpoint) {
  return [&checkpoint](const std::string& name) {
    if (const auto packed = checkpoint.packed.find(name); packed != checkpoint.packed.end()) {
      return packed_weight(name, packed->second);
    }
    const TensorView* tensor = checkpoint.store.find(name);
    if (tensor == nullptr) fail("{}: the tensor {} is missing", checkpoint.path, name);
    const int64_t size = element_count(*tensor);
    Weight weight{.name = name};
    weight.shape =
        tensor->shape.size() < 2 ? Shape{1, size} : Shape{tensor->shape[0], size / tensor->shape[0]};
    weight.parts = {{tensor->bytes.data(), tensor->dtype, weight.shape.rows, weight.shape.cols}};
    return weight;
  };
}

LmEngine::LmEngine(LmConfig config, WeightSource weights, std::shared_ptr<Backend> backend, int64_t context,
                   RunnerOptions options)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      backend_(std::move(backend)),
      context_(context),
      options_(std::move(options)) {
  if (context < 1) fail("context: expected at least 1, found {}", context);
  tokens_.reserve(size_t(context));
  runner(1);
}

// The logits stay where they are: the program gives the token, and leaves it and its position for its next
// run.
static void choose_in_program(Program& program, bool likeliest) {
  const auto tensor = [&](const auto& list, const char* name) {
    return program.handle(std::ranges::find(list, name, [](const auto& pair) { return pair.first; })->second);
  };
  const Tensor logits = tensor(program.outputs, "logits"), ids = tensor(program.inputs, "token_ids"),
               position = tensor(program.inputs, "position");
  const auto choose = [&] {
    if (likeliest) return next_token(logits, ids, position);
    return sample(logits, program.input("bias", logits.shape(), DType::f32),
                  program.input("seen", logits.shape(), DType::i32),
                  program.input("sampling", {1, kSamplingWords}, DType::i32), ids, position);
  };
  const NextToken next = choose();
  program.outputs.clear();
  program.output("token", next.token);
  program.output("log_probability", next.log_probability);
}

// Decode is built first and owns the cache; the others share it.
Runner& LmEngine::runner(int64_t which) {
  std::unique_ptr<Runner>& slot = runners_[which];
  if (!slot) {
    auto program = std::make_unique<Program>(backend_->compute());
    record_language_model(*program, config_, weights_,
                          {.rows = std::max<int64_t>(which, 1), .capacity = context_, .logits = which <= 1});
    if (which < 1) choose_in_program(*program, which == kLikeliest);
    RunnerOptions options = options_;
    if (which != 1) options.state_of = runners_.at(1).get();
    slot = std::make_unique<Runner>(backend_, std::move(program), options);
  }
  return *slot;
}

MemoryUse LmEngine::memory() const {
  MemoryUse all;
  for (const auto& [rows, runner] : runners_) {
    const MemoryUse one = runner->memory();
    all.state += one.state, all.activations += one.activations;
    all.constants += one.constants, all.workspaces += one.workspaces;
  }
  return all;
}

void LmEngine::require_known(std::span<const int32_t> ids) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config_.vocab) {
      fail("token {}: {} is outside the model's vocabulary of {}", i, ids[i], config_.vocab);
    }
  }
}

void LmEngine::run(Runner& runner, std::span<const int32_t> ids) {
  const auto slots = as<int32_t>(runner.input("token_ids"));
  std::ranges::fill(slots, 0);
  std::ranges::copy(ids, slots.begin());
  as<int32_t>(runner.input("position"))[0] = int32_t(position());
  if (!runner.run()) fail_device("running the model: {}", runner.error());
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
}

void LmEngine::require_fitting(std::span<const int32_t> ids) const {
  if (ids.empty()) fail("the prompt is empty: expected at least one token");
  require_known(ids);
  if (int64_t(ids.size()) > context_ - position()) {
    fail("{} tokens after {} do not fit the context of {}", ids.size(), position(), context_);
  }
}

std::span<const float> LmEngine::extend(std::span<const int32_t> ids) {
  end();
  require_fitting(ids);
  prefill(ids);
  run(runner(1), ids);
  return logits_of(runner(1));
}

void LmEngine::prefill(std::span<const int32_t>& ids) {
  while (ids.size() > 1) {
    const int64_t before_last = int64_t(ids.size()) - 1;
    const int64_t rows = bucket_for(before_last, context_ - position());
    const size_t count = size_t(std::min(rows, before_last));
    run(runner(rows), ids.first(count));
    ids = ids.subspan(count);
  }
}

void LmEngine::begin(std::span<const int32_t> ids) { begin(kLikeliest, ids); }

void LmEngine::begin(std::span<const int32_t> ids, const Sampler& sampler, std::span<const int32_t> prompt) {
  if (sampler.likeliest()) return begin(kLikeliest, ids);
  end();
  require_known(prompt);
  Runner& step = runner(kSampled);
  sampler.fill_bias(as<float>(step.input("bias")));
  Sampler::fill_seen(prompt, as<int32_t>(step.input("seen")));
  const SamplingSettings settings = sampler.settings();
  std::memcpy(step.input("sampling").data(), &settings, sizeof settings);
  begin(kSampled, ids);
}

void LmEngine::begin(int64_t which, std::span<const int32_t> ids) {
  end();
  require_fitting(ids);
  prefill(ids);
  Runner& step = runner(which);
  as<int32_t>(step.input("token_ids"))[0] = ids[0];
  as<int32_t>(step.input("position"))[0] = int32_t(position());
  if (!step.start(true)) fail_device("running the model: {}", step.error());
  tokens_.push_back(ids[0]);
  running_ = &step;
}

LmEngine::Chosen LmEngine::next(bool more) {
  check(running_ != nullptr, "a continuation was begun");
  Runner& step = *running_;
  const bool overlaps = step.overlap() > 1;
  more = more && position() < context_;
  if (more && overlaps && !step.start(false)) fail_device("running the model: {}", step.error());
  if (!step.finish()) fail_device("running the model: {}", step.error());
  int32_t id = 0;
  float log_probability = 0;
  std::memcpy(&id, step.output("token").data(), sizeof id);
  std::memcpy(&log_probability, step.output("log_probability").data(), sizeof log_probability);
  if (!more) running_ = nullptr;
  if (id < 0) {
    if (!overlaps) running_ = nullptr;
    end();
    fail_device("the model's logits are not finite");
  }
  if (more && !overlaps && !step.start(false)) fail_device("running the model: {}", step.error());
  if (more) tokens_.push_back(id);
  return {id, double(log_probability), more};
}

void LmEngine::end() {
  Runner* step = std::exchange(running_, nullptr);
  if (step != nullptr && !step->finish()) fail_device("running the model: {}", step->error());
}

void LmEngine::rewind(int64_t position) {
  end();
  check(position >= 0 && position <= this->position(), "rewind: a position that was reached");
  tokens_.resize(size_t(position));
}

std::vector<float> LmEngine::all_logits(std::span<const int32_t> ids) {
  require_known(ids);
  if (ids.empty()) fail("the text is empty: expected at least one token");
  const int64_t rows = int64_t(ids.size());
  auto program = std::make_unique<Program>(backend_->compute());
  record_language_model(*program, config_, weights_, {.rows = rows, .capacity = rows});
  Runner whole(backend_, std::move(program), options_);
  std::ranges::copy(ids, as<int32_t>(whole.input("token_ids")).begin());
  as<int32_t>(whole.input("position"))[0] = 0;
  if (!whole.run()) fail_device("running the model: {}", whole.error());
  const auto logits = logits_of(whole);
  return {logits.begin(), logits.end()};
}

// ---- answers ----

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::end_token: return "end_token";
    case StopReason::stop_string: return "stop_string";
    case StopReason::token_limit: return "token_limit";
    case StopReason::context_full: return "context_full";
    case StopReason::cancelled: return "cancelled";
  }
  return "";
}

StopFilter::StopFilter(std::vector<std::string> stop) : stop_(std::move(stop)) {
  for (const std::string& one : stop_) {
    if (one.empty()) fail("stop string: expected some text, found none");
  }
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  size_t end = held_.npos;
  for (const std::string& one : stop_) end = std::min(end, held_.find(one));
  if (end != held_.npos) {
    stopped_ = true;
    std::string certain = held_.substr(0, end);
    held_.clear();
    return certain;
  }
  size_t keep = 0;  // the longest end that begins a stop string
  for (const std::string& one : stop_) {
    for (size_t n = std::min(one.size() - 1, held_.size()); n > keep; --n) {
      if (held_.ends_with(std::string_view(one).substr(0, n))) keep = n;
    }
  }
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopFilter::finish() { return stopped_ ? "" : std::exchange(held_, {}); }

namespace {

// Keeps what the cache shares with the prompt; returns the rest.
std::span<const int32_t> take_prompt(LmEngine& engine, std::span<const int32_t> prompt, TextResult& result) {
  if (prompt.empty()) fail("the prompt is empty: expected at least one token");
  if (int64_t(prompt.size()) > engine.context()) {
    fail("the prompt has {} tokens, the context holds {}", prompt.size(), engine.context());
  }
  engine.end();  // an answer that was broken off
  const auto known = engine.tokens();
  const size_t shared = size_t(std::ranges::mismatch(known, prompt).in1 - known.begin());
  engine.rewind(int64_t(std::min(shared, prompt.size() - 1)));
  result.prompt_tokens = int64_t(prompt.size());
  result.reused_tokens = engine.position();
  return prompt.subspan(size_t(engine.position()));
}

}  // namespace

TextResult generate(LmEngine& engine, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const TextOptions& options, const std::function<void(std::string_view)>& emit,
                    const std::atomic<bool>* cancel) {
  TextResult result;
  Sampler sampler(options.sampler, engine.config().vocab);
  StopFilter filter(options.stop);
  TextStream stream(tokenizer);
  const auto send = [&](const std::string& text) {
    result.text += text;
    if (emit && !text.empty()) emit(text);
  };
  Clock::time_point begin = Clock::now();
  const std::span<const int32_t> rest = take_prompt(engine, prompt, result);
  engine.begin(rest, sampler, prompt);
  while (int64_t(result.ids.size()) < options.max_tokens) {
    const LmEngine::Chosen step = engine.next(int64_t(result.ids.size()) + 1 < options.max_tokens);
    const int32_t id = step.id;
    if (result.ids.empty()) result.first_token_ms = ms_since(begin), begin = Clock::now();
    if (std::ranges::find(options.end_tokens, id) != options.end_tokens.end()) {
      result.reason = StopReason::end_token;
      break;
    }
    result.ids.push_back(id);
    result.log_probabilities.push_back(step.log_probability);
    send(filter.push(id < tokenizer.vocab_size() ? stream.push(id) : ""));
    if (filter.stopped())
      result.reason = StopReason::stop_string;
    else if (cancel != nullptr && *cancel)
      result.reason = StopReason::cancelled;
    else if (int64_t(result.ids.size()) == options.max_tokens)
      break;
    else if (!step.more)
      result.reason = StopReason::context_full;
    else
      continue;
    break;
  }
  engine.end();
  result.decode_ms = ms_since(begin);
  send(filter.push(stream.finish()));
  if (filter.stopped()) result.reason = StopReason::stop_string;
  send(filter.finish());
  return result;
}

}  // namespace flashrt
