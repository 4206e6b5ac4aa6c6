// flashrt eval tabletop: the success rate of a policy on held-out seeds, per task family, with 95 %
// intervals.
#include <fmt/core.h>
#include <unistd.h>

#include "apps/tabletop.h"

namespace flashrt::apps {

namespace {

struct Options : TabletopOptions {
  bool json = false;
  int require = 0;  // fail below this many successes
};

void print_table(const tabletop::Summary& s, const TabletopPolicy& policy) {
  const auto row = [](const char* label, const tabletop::Rate& r) {
    if (r.episodes == 0) return;
    fmt::print("{:<8} {:>4} of {:<4} {:>6.1f} %   95 %: {:>5.1f} to {:>5.1f} %\n", label, r.successes,
               r.episodes, 100 * r.rate(), 100 * r.low(), 100 * r.high());
  };
  fmt::print("{}\n", policy.description);
  for (int f = 0; f < tabletop::kFamilies; ++f) row(tabletop::name(tabletop::Family(f)), s.family[f]);
  row("all", s.all);
  fmt::print("policy   {} calls, {:.2f} ms p50, {:.2f} ms p99\n", s.policy_calls, s.policy_ms_p50,
             s.policy_ms_p99);
}

void print_summary(const tabletop::Summary& s, const TabletopPolicy& policy, const Options& o) {
  nlohmann::json document = nlohmann::json::parse(tabletop::to_json(s));
  document["seed"] = o.seed;
  document["policy"] = policy.description;
  document["blank_images"] = o.loop.blank_images;
  document["swap_prompts"] = o.loop.swap_prompts;
  print_json(document);
}

int evaluate(Options o) {
  const auto seeds = tabletop_seeds(o);
  const TabletopPolicy policy = load_tabletop_policy(o);
  const bool progress = isatty(STDERR_FILENO) == 1;
  std::vector<tabletop::EpisodeResult> results;
  for (uint64_t seed : seeds) {
    results.push_back(tabletop::run_episode(seed, policy.call, o.loop));
    if (progress) fmt::print(stderr, "\r{} of {} episodes ", results.size(), seeds.size());
  }
  if (progress) fmt::print(stderr, "\r\x1b[K");
  const tabletop::Summary s = tabletop::summarise(results);
  o.json ? print_summary(s, policy, o) : print_table(s, policy);
  if (s.all.successes >= o.require) return 0;
  fmt::print(stderr, "error: {} of {} episodes succeeded, {} are required\n", s.all.successes, s.all.episodes,
             o.require);
  return 1;
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "Measure how well a policy does its tasks");
  command->require_subcommand(1);
  CLI::App* suite =
      command->add_subcommand("tabletop", "The tabletop world of `flashrt demo`, on held-out seeds");
  auto o = std::make_shared<Options>();
  o->episodes = 20;
  add_tabletop_options(*suite, *o);
  suite->add_flag("--json", o->json, "Print JSON");
  suite->add_option("--require", o->require, "Exit with 1 below this many successes");
  on_run(*suite, with_input_errors([o] { return evaluate(*o); }));
}

}  // namespace flashrt::apps
