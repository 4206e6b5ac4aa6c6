// flashrt generate and flashrt chat: text in, tokens out.
#include "apps/generate.h"

#include <fmt/core.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <iostream>
#include <iterator>
#include <optional>

#include "io/chat_template.h"
#include "io/lm_case.h"
#include "io/tokenizer_utf8.h"
#include "runtime/weight_formats.h"

namespace flashrt::apps {

namespace {

struct Options {
  std::string checkpoint, prompt, system, weights;
  DeviceOptions device;
  int64_t context = 0, max_tokens = 0;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  SamplerOptions sampler;  // what the checkpoint recommends nothing for
  std::vector<std::string> stop, bias;
  bool ignore_end = false, log_probabilities = false, json = false;

  void add_to(CLI::App& app, int64_t default_tokens);
};

void Options::add_to(CLI::App& app, int64_t default_tokens) {
  max_tokens = default_tokens;
  app.add_option("--max-tokens", max_tokens, "Tokens of an answer, at most")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_option("--context", context,
                 "Tokens that prompt and answers may take together (0: the model's, at most 4096)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  app.add_option("--temperature", temperature,
                 "0: always the likeliest token (default: generation_config.json, else 0)");
  app.add_option("--top-k", top_k, "Sample among the k likeliest (0: all)");
  app.add_option("--top-p", top_p, "Sample among the fewest tokens whose probabilities reach this");
  app.add_option("--min-p", min_p, "Sample among tokens at least this fraction as likely as the likeliest");
  app.add_option("--repetition-penalty", repetition_penalty, "Divides the logits of tokens seen");
  app.add_option("--presence-penalty", sampler.presence_penalty,
                 "Subtracted from the logits of tokens answered");
  app.add_option("--frequency-penalty", sampler.frequency_penalty, "The same, per occurrence");
  app.add_option("--logit-bias", bias, "token id=value, added to that logit")->allow_extra_args(false);
  app.add_option("--seed", sampler.seed, "Of the random numbers")->capture_default_str();
  app.add_option("--stop", stop, "Text that ends the answer; may be given several times")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", ignore_end, "Do not stop at an end token");
  app.add_flag("--json", json, "Print JSON instead of streaming the text");
  add_weight_format(app, weights);
  device.add_to(app);
}

// A checkpoint ready to answer.
struct Model {
  explicit Model(const Options& options);

  LmCheckpoint checkpoint;
  Tokenizer tokenizer;
  std::shared_ptr<Backend> backend;
  TextOptions text;
  std::unique_ptr<LmEngine> engine;
};

std::pair<int32_t, float> parse_bias(const std::string& text) {
  int id = 0, end = 0;
  float value = 0;
  if (std::sscanf(text.c_str(), "%d=%f%n", &id, &value, &end) != 2 || size_t(end) != text.size()) {
    fail("--logit-bias: expected id=value, found '{}'", text);
  }
  return {id, value};
}

Model::Model(const Options& options)
    : checkpoint(load_lm_checkpoint(options.checkpoint)), tokenizer(Tokenizer::load(options.checkpoint)) {
  for (const std::string& warning : checkpoint.warnings) log_warn("{}", warning);
  const LmConfig& config = checkpoint.config;
  require_vocabulary(checkpoint, tokenizer);
  const LmGeneration& g = checkpoint.generation;
  text.sampler = options.sampler;
  text.sampler.temperature = options.temperature.value_or(g.temperature);
  text.sampler.top_k = options.top_k.value_or(g.top_k);
  text.sampler.top_p = options.top_p.value_or(g.top_p);
  text.sampler.min_p = options.min_p.value_or(g.min_p);
  text.sampler.repetition_penalty = options.repetition_penalty.value_or(g.repetition_penalty);
  for (const std::string& one : options.bias) text.sampler.bias.insert(parse_bias(one));
  const Sampler checked(text.sampler, config.vocab);  // before the weights are made ready
  text.max_tokens = options.max_tokens;
  text.stop = options.stop;
  for (const std::string& one : text.stop) {
    if (one.empty() || !is_valid_utf8(one))
      fail("--stop: expected text in UTF-8, found {} other bytes", one.size());
  }
  if (!options.ignore_end) {
    text.end_tokens = g.end_tokens;
    if (tokenizer.eos() >= 0) text.end_tokens.push_back(tokenizer.eos());
  }
  const int64_t context = options.context > 0 ? options.context : std::min<int64_t>(config.positions, 4096);
  if (context > config.positions) {
    log_warn("--context {}: the model was made for {} positions", context, config.positions);
  }
  backend = options.device.open();
  engine = std::make_unique<LmEngine>(config, lm_weights(checkpoint, options.weights), backend, context,
                                      options.device.runner_options());
}

void require_text(const char* what, std::string_view text) {
  const size_t bad = invalid_utf8_at(text);
  if (bad < text.size())
    fail("{}: byte {}: expected text in UTF-8, found 0x{:02x}", what, bad, uint8_t(text[bad]));
}

// Ctrl-C ends the answer; a second one before that ends the program.
std::atomic<bool> g_cancel{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) {
    if (g_cancel.exchange(true)) _exit(130);
  };
  sigaction(SIGINT, &action, nullptr);  // no SA_RESTART: reading a line ends too
}

void stream_text(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

nlohmann::json as_json(const Model& model, const TextResult& r, bool log_probabilities) {
  nlohmann::json out{{"text", r.text},
                     {"tokens", r.ids},
                     {"stop", name_of(r.reason)},
                     {"prompt_tokens", r.prompt_tokens},
                     {"reused_tokens", r.reused_tokens},
                     {"context", model.engine->context()},
                     {"first_token_ms", r.first_token_ms},
                     {"device", model.backend->name()},
                     {"precision", name_of(model.backend->compute())}};
  if (r.ids.size() > 1) out["decode_ms_per_token"] = r.decode_ms / double(r.ids.size() - 1);
  if (log_probabilities) out["log_probabilities"] = r.log_probabilities;
  return out;
}

// Why an answer that did not end by itself ended; on stderr, so that stdout is the text alone.
void explain(const Model& model, const TextResult& r) {
  if (r.reason == StopReason::context_full) {
    log_warn("stopped: the context of {} tokens is full (--context)", model.engine->context());
  } else if (r.reason == StopReason::token_limit) {
    log_info("stopped after {} tokens (--max-tokens)", r.ids.size());
  }
}

int run_generate(const Options& options) {
  Model model(options);
  std::string prompt = options.prompt;
  if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  require_text("the prompt", prompt);
  const auto prefix = model.tokenizer.prefix();
  std::vector<int32_t> ids(prefix.begin(), prefix.end());
  const std::vector<int32_t> body = model.tokenizer.encode(prompt);
  ids.insert(ids.end(), body.begin(), body.end());
  watch_interrupts();
  const TextResult r =
      options.json ? generate(*model.engine, model.tokenizer, ids, model.text, {}, &g_cancel)
                   : generate(*model.engine, model.tokenizer, ids, model.text, stream_text, &g_cancel);
  if (options.json)
    print_json(as_json(model, r, options.log_probabilities));
  else
    fmt::print("\n");
  explain(model, r);
  return r.reason == StopReason::cancelled ? 130 : 0;
}

// ---- conversations ----

constexpr const char* kHelp =
    "/help    this text\n"
    "/reset   forget the conversation\n"
    "/exit    leave (or Ctrl-D)\n"
    "Ctrl-C   ends an answer\n";

class Chat {
 public:
  explicit Chat(const Options& options)
      : options_(options), template_(ChatTemplate::load(options.checkpoint)), model_(options) {
    reset();
  }
  int run();

 private:
  void reset();
  void answer(const std::string& line);

  const Options& options_;
  ChatTemplate template_;
  Model model_;
  std::vector<ChatMessage> messages_;
};

void Chat::reset() {
  messages_.clear();
  if (!options_.system.empty()) messages_.push_back({"system", options_.system});
}

void Chat::answer(const std::string& line) {
  require_text("the message", line);
  const Tokenizer& t = model_.tokenizer;
  const auto text_of = [&](int id) { return id >= 0 ? t.token(id) : std::string_view(); };
  messages_.push_back({"user", line});
  const std::string text =
      template_.render(messages_, true, text_of(t.bos()), text_of(t.eos()), std::time(nullptr));
  const std::vector<int32_t> ids = t.encode_with_special(text);
  if (int64_t(ids.size()) > model_.engine->context()) {
    fail(
        "the conversation has {} tokens, the context holds {}: /reset starts a new one, --context sets the "
        "size",
        ids.size(), model_.engine->context());
  }
  const TextResult r = options_.json ? generate(*model_.engine, t, ids, model_.text, {}, &g_cancel)
                                     : generate(*model_.engine, t, ids, model_.text, stream_text, &g_cancel);
  messages_.push_back({"assistant", r.text});
  if (options_.json)
    fmt::print("{}\n", as_json(model_, r, options_.log_probabilities).dump());
  else
    fmt::print("\n");
  std::fflush(stdout);
  explain(model_, r);
}

// A message that cannot be answered is forgotten; the exit code says that there was one.
int Chat::run() {
  const bool person = isatty(0) && !options_.json;
  int code = 0;
  require_text("--system", options_.system);
  watch_interrupts();
  for (std::string line;;) {
    if (person) stream_text("> ");
    g_cancel = false;
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line.empty()) continue;
    if (line == "/help")
      fmt::print("{}", kHelp);
    else if (line == "/reset")
      reset();
    else if (line[0] == '/')
      fmt::print(stderr, "error: no command {} (see /help)\n", line), code = 2;
    else {
      const std::vector<ChatMessage> before = messages_;
      try {
        answer(line);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::input) throw;
        fmt::print(stderr, "error: {}\n", error.what());
        messages_ = before;
        code = 2;
      }
    }
  }
  if (person) fmt::print("\n");
  return code;
}

}  // namespace

LmVerification verify_lm(const std::string& checkpoint, const std::string& case_file,
                         std::shared_ptr<Backend> backend, const RunnerOptions& options,
                         const std::string& weights) {
  const LmCase recorded = read_lm_case(case_file);
  const LmCheckpoint loaded = load_lm_checkpoint(checkpoint);
  if (recorded.vocab != loaded.config.vocab) {
    fail("{}: out.logits: expected {} columns, the vocabulary of {}, found {}", case_file,
         loaded.config.vocab, checkpoint, recorded.vocab);
  }
  const int64_t context = int64_t(recorded.token_ids.size() + recorded.greedy.size());
  LmEngine engine(loaded.config, lm_weights(loaded, weights), std::move(backend), context, options);
  LmVerification result{.logits = compare(engine.all_logits(recorded.token_ids), recorded.logits),
                        .greedy_count = recorded.greedy.size()};
  engine.begin(recorded.token_ids);
  while (result.greedy_equal < recorded.greedy.size()) {
    const bool more = result.greedy_equal + 1 < recorded.greedy.size();
    if (engine.next(more).id != recorded.greedy[result.greedy_equal]) break;
    ++result.greedy_equal;
  }
  engine.end();
  return result;
}

void add_weight_format(CLI::App& app, std::string& weights) {
  app.add_option("--weights", weights,
                 "Encode the matrices of attention and MLP while loading: fp8, int8, int4 or nvfp4");
}

void add_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("generate", "Continue a text with a language model");
  command.add_option("checkpoint", options->checkpoint, "Checkpoint directory (Hugging Face layout)")
      ->required();
  command.add_option("prompt", options->prompt, "The text; - reads it from stdin")->required();
  options->add_to(command, 256);
  command.add_flag("--logprobs", options->log_probabilities,
                   "With --json: the log probability of each token");
  on_run(command, [options] { return run_generate(*options); });
}

void add_chat(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("chat", "Talk with a language model; one line on stdin is one message");
  command.add_option("checkpoint", options->checkpoint, "Checkpoint directory (Hugging Face layout)")
      ->required();
  command.add_option("--system", options->system, "The system message");
  options->add_to(command, 1024);
  on_run(command, [options] { return Chat(*options).run(); });
}

}  // namespace flashrt::apps
