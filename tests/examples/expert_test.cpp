// The scripted expert succeeds on held-out seeds, also when it is disturbed; doing nothing or the wrong thing
// does not.
#include "tabletop/expert.h"

#include <gtest/gtest.h>

#include "tabletop/episode.h"
#include "tabletop/record.h"

namespace flashrt::tabletop {
namespace {

constexpr int kEpisodes = 500;

Summary play(const Policy& policy, LoopOptions options = {}) {
  options.image_size = 14;  // nobody looks
  std::vector<EpisodeResult> results;
  for (uint64_t seed = 0; seed < kEpisodes; ++seed) results.push_back(run_episode(seed, policy, options));
  return summarise(results);
}

TEST(Expert, SucceedsOnHeldOutSeeds) {
  const Summary s = play(expert_policy());
  EXPECT_GE(s.all.rate(), 0.98);
  for (const Rate& r : s.family) {
    EXPECT_EQ(r.episodes, kEpisodes / kFamilies);
    EXPECT_GE(r.rate(), 0.97);
  }
}

TEST(Expert, SucceedsWhateverShareOfTheChunkIsExecuted) {
  for (int execute : {1, 4, 16})
    EXPECT_GE(play(expert_policy(16), {.execute = execute}).all.rate(), 0.98) << execute;
}

TEST(Expert, RecoversFromDisturbances) {
  RecordOptions options;
  options.noise = 1;
  options.stride = 1000;  // no pictures: only the outcome matters here
  int successes = 0;
  Recording recording;
  for (uint64_t seed = 0; seed < kEpisodes; ++seed) {
    record_episode(seed, options, recording);
    successes += recording.success;
  }
  EXPECT_GE(successes, kEpisodes * 85 / 100);  // the time limit counts as well
}

// What a policy that ignores picture or prompt can reach by chance must be far below a trained one.
TEST(Expert, ChanceIsRare) {
  const Policy idle = [](const Observation&) -> std::span<const float> {
    static constexpr float chunk[16 * kActionDim] = {};
    return chunk;
  };
  EXPECT_LE(play(idle).all.rate(), 0.01);
  const Policy obeys_another_prompt = [chunk = std::vector<float>()](const Observation& o) mutable {
    World copy = o.truth->world;
    Task task = o.truth->task;
    do {
      task.object = (task.object + 1) % copy.block_count;
    } while (task.object == task.other);
    chunk.clear();
    for (int i = 0; i < 16; ++i) {
      const Action a = expert_action(copy, task);
      chunk.insert(chunk.end(), {a.dx, a.dy, a.dz, a.grip});
      copy.step(a);
    }
    return std::span<const float>(chunk);
  };
  EXPECT_LE(play(obeys_another_prompt).all.rate(), 0.1);
}

TEST(Loop, ReplansAfterHalfTheChunkByDefaultAndControlsChangeWhatThePolicySees) {
  int calls = 0, frames = 0;
  const Policy expert = expert_policy(10);
  const Episode truth = make_episode(0);
  const auto result = run_episode(
      0,
      [&](const Observation& o) {
        EXPECT_EQ(o.step, 5 * calls++);
        return expert(o);
      },
      {}, [&](const Frame&) { ++frames; });
  EXPECT_TRUE(result.success);
  EXPECT_EQ(frames, result.steps + 1);
  EXPECT_EQ(calls, (result.steps + 4) / 5);
  EXPECT_EQ(int(result.policy_ms.size()), calls);
  run_episode(0,
              [&](const Observation& o) {
                EXPECT_NE(o.prompt, truth.prompt);
                for (uint8_t v : o.top) EXPECT_EQ(v, 128);
                return expert(o);
              },
              {.blank_images = true, .swap_prompts = true});
  EXPECT_THROW(run_episode(0, [](const Observation&) { return std::span<const float>(); }, {}),
               std::runtime_error);
}

TEST(Loop, WilsonIntervalAndJson) {
  const Rate r{18, 20};  // by hand: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)
  EXPECT_NEAR(r.low(), 0.6990, 1e-4);
  EXPECT_NEAR(r.high(), 0.9721, 1e-4);
  EXPECT_EQ(Rate{}.low(), 0);
  EXPECT_EQ(Rate{}.high(), 1);
  EXPECT_NEAR((Rate{400, 400}.low()), 0.9905, 1e-4);
  const EpisodeResult results[] = {{0, Family::place, "", true, 10, {3, 1, 2}},
                                   {1, Family::push, "", false, 80, {}}};
  const std::string json = to_json(summarise(results), ", \"device\": \"cpu\"");
  for (const char* part : {"\"episodes\": 2", "\"success_rate\": 0.5000", "\"ci95\": [",
                           "\"tasks\": {\"place\": {", "\"policy_ms_p50\": 2.000", "\"device\": \"cpu\"}"}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << " in " << json;
  }
}

}  // namespace
}  // namespace flashrt::tabletop
