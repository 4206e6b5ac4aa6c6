// flashrt demo: a policy plays tabletop episodes in the terminal and on an HTML page; --record makes training
// data.
#include <fmt/core.h>

#include <chrono>

#include "apps/tabletop.h"
#include "tabletop/page.h"
#include "tabletop/player.h"
#include "tabletop/record.h"

namespace flashrt::apps {

namespace {

struct Options : TabletopOptions {
  std::string html = "tabletop.html";
  std::vector<std::string> record;  // N, DIR
  bool fast = false;
};

int record(const Options& o, bool seed_given) {
  int episodes = 0;
  if (!CLI::detail::lexical_cast(o.record[0], episodes) || episodes < 1) {
    fail("--record: expected a number of episodes, found '{}'", o.record[0]);
  }
  const uint64_t first = seed_given ? o.seed : tabletop::kFirstTrainingSeed;
  const auto start = std::chrono::steady_clock::now();
  const size_t frames = tabletop::record_shards(o.record[1], first, episodes, {});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("{} episodes, {} frames of {} cameras in {} ({:.0f} frames/s)\n", episodes, frames,
             tabletop::kCameras, o.record[1], double(frames) / seconds);
  return 0;
}

int play(Options o) {
  const auto seeds = tabletop_seeds(o);
  if (!o.html.empty()) tabletop::check_writable(o.html);
  const TabletopPolicy policy = load_tabletop_policy(o);
  tabletop::Page page(policy.description);
  std::vector<tabletop::EpisodeResult> results;
  {
    tabletop::Player player(stdout, tabletop::detect_terminal(stdout), int(seeds.size()), o.fast ? 0 : 100);
    for (uint64_t seed : seeds) {
      results.push_back(tabletop::run_episode(seed, policy.call, o.loop, [&](const tabletop::Frame& f) {
        player.frame(f);
        if (!o.html.empty()) page.frame(f);
      }));
      player.finished(results.back());
      if (!o.html.empty()) page.finished(results.back());
    }
  }
  const tabletop::Summary s = tabletop::summarise(results);
  fmt::print("{}: {} of {} episodes succeeded ({:.0f} %, 95 % interval {:.0f} to {:.0f} %)\n",
             policy.description, s.all.successes, s.all.episodes, 100 * s.all.rate(), 100 * s.all.low(),
             100 * s.all.high());
  fmt::print("policy call: {:.1f} ms p50, {:.1f} ms p99\n", s.policy_ms_p50, s.policy_ms_p99);
  if (o.html.empty()) return 0;
  tabletop::write_file(o.html, page.html());
  fmt::print("wrote {}\n", o.html);
  return 0;
}

}  // namespace

void add_demo(CLI::App& app) {
  auto o = std::make_shared<Options>();
  o->episodes = 10;
  CLI::App* command = app.add_subcommand("demo", "Play tabletop episodes with a small trained policy");
  add_tabletop_options(*command, *o);
  command->add_option("--html", o->html, "Write the episodes as a page (an empty name: none)")
      ->capture_default_str();
  command
      ->add_option("--record", o->record,
                   "Instead of playing, write N expert episodes as training data to DIR")
      ->expected(2)
      ->type_name("N DIR");
  command->add_flag("--fast", o->fast, "Do not slow down to the speed of the world");
  on_run(*command, with_input_errors([o, command] {
    return o->record.empty() ? play(*o) : record(*o, command->count("--seed") > 0);
  }));
}

}  // namespace flashrt::apps
