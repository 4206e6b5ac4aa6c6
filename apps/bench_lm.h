// flashrt bench on language models: prefill, and the tokens after it.
#pragma once

#include "apps/command.h"

namespace flashrt::apps {

struct LmBenchOptions {
  int64_t prompt = 128, tokens = 1024;  // decoding is timed from `prompt` tokens on
  std::string weights;                  // a packed format, or empty: as they are
  bool lines = false;
  void add_to(CLI::App& app);
};

// A published size (llama-2-7b …), or a checkpoint with a language model's configuration.
bool is_language_model(const NetworkOptions& network);
int bench_lm(const NetworkOptions& network, const DeviceOptions& device, const LmBenchOptions& options,
             bool json, const std::string& out, const std::string& peers);

}  // namespace flashrt::apps
