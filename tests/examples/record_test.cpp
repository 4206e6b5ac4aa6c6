// Recorded episodes: labels are the clean expert's, files hold what the format says, and recording is fast
// enough.
#include "tabletop/record.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstring>
#include <ctime>
#include <fstream>

#include "tabletop/expert.h"
#include "tabletop/render.h"

namespace flashrt::tabletop {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::temp_directory_path() / ("tabletop-" + std::to_string(::getpid()));
  ~Folder() { fs::remove_all(path); }
};

TEST(Record, LabelsAreTheCleanExpertEvenUnderNoise) {
  Recording clean, noisy;
  record_episode(kFirstTrainingSeed, {.horizon = 8, .noise = 0}, clean);
  record_episode(kFirstTrainingSeed, {.horizon = 8, .noise = 1}, noisy);
  ASSERT_TRUE(clean.success);
  Episode e = make_episode(kFirstTrainingSeed);
  for (int f = 0; f < clean.frames; ++f) {  // without noise: the chunk is what then happens
    const Action a = expert_action(e.world, e.task);
    EXPECT_EQ(clean.actions[size_t(f) * 8 * kActionDim], a.dx);
    if (f + 1 < clean.frames) {
      EXPECT_EQ(clean.actions[(size_t(f) * 8 + 1) * kActionDim + 2],
                clean.actions[size_t(f + 1) * 8 * kActionDim + 2]);
    }
    EXPECT_EQ(clean.states[size_t(f) * kStateDim], e.world.gripper.at.x);
    e.world.step(a);
  }
  EXPECT_EQ(std::memcmp(clean.actions.data(), noisy.actions.data(), 8 * kActionDim * sizeof(float)), 0);
  EXPECT_NE(noisy.states, clean.states);
}

TEST(Record, StrideKeepsEveryNthFrame) {
  Recording all, some;
  record_episode(kFirstTrainingSeed + 1, {}, all);
  record_episode(kFirstTrainingSeed + 1, {.stride = 4}, some);
  EXPECT_NEAR(some.frames, all.frames / 4., 1.);
  EXPECT_EQ(some.images.size(), size_t(some.frames) * kCameras * image_bytes(kImageSize));
  EXPECT_EQ(some.actions.size(), size_t(some.frames) * 16 * kActionDim);
}

TEST(Record, ShardsHoldWhatTheHeaderSays) {
  Folder folder;
  const size_t frames =
      record_shards(folder.path, kFirstTrainingSeed, 5, {.image_size = 28, .horizon = 4}, 3);
  size_t total = 0;
  for (const auto& [first, episodes] : {std::pair{0, 3u}, std::pair{3, 2u}}) {
    const fs::path path =
        folder.path / ("tabletop-" + std::to_string(kFirstTrainingSeed + uint64_t(first)) + ".bin");
    std::ifstream file(path, std::ios::binary);
    char magic[8];
    uint32_t h[8];
    file.read(magic, 8);
    file.read(reinterpret_cast<char*>(h), sizeof h);
    EXPECT_EQ(std::string(magic, 8), "TABLETOP");
    EXPECT_EQ(h[1], episodes);
    EXPECT_EQ(h[2], 28u);
    EXPECT_EQ(h[4], 4u);
    total += h[0];
    const size_t per_frame = 4 + 4 * h[6] + size_t(h[4]) * h[5] * 4 + size_t(h[3]) * 28 * 28 * 3;
    EXPECT_EQ(fs::file_size(path), 64 + size_t(h[1]) * h[7] + h[0] * per_frame);
    file.seekg(-std::streamoff(size_t(h[1]) * h[7]), std::ios::end);
    std::string prompt(h[7], '\0');
    file.read(prompt.data(), h[7]);
    EXPECT_EQ(std::string(prompt.c_str()), make_episode(kFirstTrainingSeed + uint64_t(first)).prompt);
  }
  EXPECT_EQ(total, frames);
}

TEST(Record, RefusesHeldOutSeedsAndUnwritableFolders) {
  Folder folder;
  EXPECT_THROW(record_shards(folder.path, 17, 1, {}), std::runtime_error);
  std::ofstream(folder.path.string()) << "a file, not a folder";
  EXPECT_THROW(record_shards(folder.path, kFirstTrainingSeed, 1, {.image_size = 28}), std::runtime_error);
}

TEST(Record, IsFastEnough) {
#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
  GTEST_SKIP() << "not an optimised build";
#endif
  // CPU time, so that a busy machine does not fail it.
  const std::clock_t start = std::clock();
  int frames = 0;
  Recording recording;
  for (uint64_t i = 0; i < 40; ++i) {
    record_episode(kFirstTrainingSeed + i, {}, recording);
    frames += recording.frames;
  }
  const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  RecordProperty("frames_per_second", int(frames / seconds));
  EXPECT_GE(frames / seconds, 2000);
}

}  // namespace
}  // namespace flashrt::tabletop
