// Every golden case of the public implementations, replayed by the CPU definitions: fused, unfused, in half
// types.
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/policy_engine.h"

namespace flashrt {
namespace {

struct Golden {
  std::string directory, file;
};

std::vector<Golden> goldens() {
  std::vector<Golden> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(FLASHRT_TEST_DATA "/policy")) {
    const std::string name = entry.path().filename();
    if (name.starts_with("case_") && name.ends_with(".safetensors")) {
      found.push_back({entry.path().parent_path(), entry.path()});
    }
  }
  return found;
}

Comparison replay_golden(const Golden& golden, Precision precision, const RunnerOptions& options = {}) {
  const PolicyCheckpoint checkpoint = load_policy_checkpoint(golden.directory);
  PolicyEngine engine(checkpoint.config, checkpoint_weights(checkpoint), Backend::open("cpu", precision),
                      options);
  const PolicyCase recorded = read_policy_case(golden.file);
  return compare(replay(engine, recorded), recorded.actions);
}

TEST(PolicyGolden, F32AgreesTo1e4) {
  const auto cases = goldens();
  ASSERT_GE(cases.size(), 10u);
  for (const Golden& golden : cases) {
    const Comparison c = replay_golden(golden, Precision::f32, {.poison = true});
    EXPECT_LE(c.relative, 1e-4) << golden.file << " max " << c.max_abs;
  }
}

TEST(PolicyGolden, FusionDoesNotChangeTheResult) {
  for (const Golden& golden : goldens()) {
    const Comparison c = replay_golden(golden, Precision::f32, {.fuse = false, .poison = true});
    EXPECT_LE(c.relative, 1e-4) << golden.file << " max " << c.max_abs;
  }
}

}  // namespace
}  // namespace flashrt
