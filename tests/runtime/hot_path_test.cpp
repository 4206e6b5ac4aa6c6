// A call after the first of its kind allocates nothing, on any thread: malloc itself is watched.
#include <gtest/gtest.h>

#include <atomic>

#include "runtime/policy_inputs.h"
#include "tests/runtime/tiny_policy.h"

namespace {
std::atomic<bool> g_watching{false};
std::atomic<int> g_allocations{0};
void note() {
  if (g_watching.load(std::memory_order_relaxed)) ++g_allocations;
}
}  // namespace

#ifndef __SANITIZE_ADDRESS__
// operator new ends in malloc, so these see every allocation of the process. (glibc's own names behind them.)
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t size) { return note(), __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return note(), __libc_calloc(count, size); }
void* realloc(void* p, size_t size) { return note(), __libc_realloc(p, size); }
void* aligned_alloc(size_t align, size_t size) { return note(), __libc_memalign(align, size); }
int posix_memalign(void** p, size_t align, size_t size) {
  note();
  *p = __libc_memalign(align, size);
  return *p == nullptr;
}
}
#endif

namespace flashrt {
namespace {

template <class F>
int allocations(F&& body) {
  g_allocations = 0;
  g_watching = true;
  body();
  g_watching = false;
  return g_allocations;
}

class HotPath : public testing::TestWithParam<PolicyFamily> {
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "malloc is the sanitizer's";
#endif
  }
};

TEST_P(HotPath, TheHookSeesAllocations) {
  EXPECT_GE(allocations([] { std::vector<int>(1000).swap(*std::make_unique<std::vector<int>>()); }), 1);
  EXPECT_GE(allocations([] { free(std::calloc(3, 5)); }), 1);
}

TEST_P(HotPath, RunningAProgramAllocatesNothing) {
  for (Precision precision : {Precision::f32, Precision::bf16}) {
    const PolicyConfig config = tiny_policy_config(GetParam());
    PolicyEngine engine(config, random_policy_weights(config, 1), Backend::open("cpu", precision));
    Runner& runner = engine.runner({.views = 2, .text_tokens = 16, .horizon = 4, .steps = 3});
    fill_random_inputs(runner, config, 1);
    ASSERT_TRUE(runner.run());
    EXPECT_EQ(allocations([&] {
                for (int i = 0; i < 5; ++i) runner.run();
              }),
              0);
  }
}

TEST_P(HotPath, ActingAllocatesNothing) {
  PolicySession session(load_policy_checkpoint(tiny_policy(GetParam())),
                        Backend::open("cpu", Precision::f32));
  TinyObservation observation(session);
  session.act(observation);
  EXPECT_EQ(allocations([&] {
              for (int i = 0; i < 5; ++i) session.act(observation);
            }),
            0)
      << "unchanged prompt and state";
}

// A robot moves: new pictures, a new state and seed at every call, within one bucket of prompt lengths.
TEST_P(HotPath, ActingOnAMovingRobotAllocatesNothing) {
  PolicySession session(load_policy_checkpoint(tiny_policy(GetParam())), Backend::open("cpu", Precision::f32),
                        {.text_bucket = 64});
  TinyObservation observation(session);
  session.act(observation);
  EXPECT_EQ(allocations([&] {
              for (int i = 0; i < 5; ++i) {
                observation.seed = uint64_t(i);
                for (float& v : observation.state) v = 0.1f * float(i) - 0.2f;
                observation.pictures[0][0] = uint8_t(i);
                session.act(observation);
              }
            }),
            0);
}

// Other words of the same bucket are tokenised, but no program is built: that would be thousands of
// allocations.
TEST_P(HotPath, OtherWordsRebuildNothing) {
  PolicySession session(load_policy_checkpoint(tiny_policy(GetParam())), Backend::open("cpu", Precision::f32),
                        {.text_bucket = 64});
  TinyObservation observation(session);
  session.act(observation);
  observation.prompt = "push the blue disc to the left";
  EXPECT_LT(allocations([&] { session.act(observation); }), 100);
}

INSTANTIATE_TEST_SUITE_P(Policies, HotPath, testing::Values(PolicyFamily::pi0, PolicyFamily::pi05),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace flashrt
