// What `flashrt demo` and `flashrt eval tabletop` share: the policy to run, the seeds, and how they are
// chosen.
#pragma once

#include "apps/command.h"
#include "tabletop/episode.h"

namespace flashrt::apps {

struct TabletopOptions {
  std::string policy = "checkpoint";  // or "expert"
  std::string checkpoint = "examples/tabletop/policy";
  DeviceOptions device;
  std::string task;  // one family only; empty: all
  int episodes = 0;
  uint64_t seed = 0;
  tabletop::LoopOptions loop;
};

struct TabletopPolicy {
  tabletop::Policy call;
  std::string description;  // for people: what runs, where, in which number format
  int image_size = tabletop::kImageSize;
  int execute = 0;  // actions of a chunk to execute; 0: half of it
};

void add_tabletop_options(CLI::App& command, TabletopOptions& options);
// Also settles what the policy decides about the loop: the size of its pictures, and how much of a chunk to
// execute unless --execute says.
TabletopPolicy load_tabletop_policy(TabletopOptions& options);

// `options.episodes` held-out seeds from `options.seed` on, of the asked family if one was asked for.
std::vector<uint64_t> tabletop_seeds(const TabletopOptions& options);

// A command's callback: what the example throws about files and seeds becomes bad input (exit code 2).
Run with_input_errors(Run body);

}  // namespace flashrt::apps
