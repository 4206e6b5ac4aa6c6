// The subcommands of language models.
#pragma once

#include "apps/command.h"
#include "runtime/text_generator.h"

namespace flashrt::apps {

void add_generate(CLI::App& app);
void add_chat(CLI::App& app);
void add_quantize(CLI::App& app);
void add_perplexity(CLI::App& app);

// A recorded language model case: logits of the prompt, then the greedy continuation.
struct LmVerification {
  Comparison logits;
  size_t greedy_equal = 0, greedy_count = 0;  // tokens up to the first that differs
};
LmVerification verify_lm(const std::string& checkpoint, const std::string& case_file,
                         std::shared_ptr<Backend> backend, const RunnerOptions& options,
                         const std::string& weights = "");

// --weights: a packed format for the matrices, empty for as they are stored.
void add_weight_format(CLI::App& app, std::string& weights);

}  // namespace flashrt::apps
