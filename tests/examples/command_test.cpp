// flashrt demo and flashrt eval as people run them: outputs, exit codes, and what bad input says.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

namespace fs = std::filesystem;

struct Outcome {
  int code = -1;
  std::string text;  // stdout and stderr
};

Outcome flashrt(const std::string& arguments, const std::string& environment = "") {
  const std::string command = environment + " " FLASHRT_EXECUTABLE " " + arguments + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  Outcome out;
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) out.text.append(buffer.data(), n);
  const int status = pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

class Command : public testing::Test {
 protected:
  fs::path folder = fs::temp_directory_path() / ("flashrt-command-" + std::to_string(::getpid()));

  void SetUp() override {
    if (::access(FLASHRT_EXECUTABLE, X_OK) != 0) GTEST_SKIP() << FLASHRT_EXECUTABLE << " is not built";
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }

  static void expect_bad_input(const std::string& arguments, const std::string& says) {
    const Outcome out = flashrt(arguments);
    EXPECT_EQ(out.code, 2) << arguments << "\n" << out.text;
    EXPECT_NE(out.text.find(says), std::string::npos) << arguments << "\n" << out.text;
  }
};

TEST_F(Command, DemoPrintsPlainLinesToAPipeAndWritesThePage) {
  const fs::path page = folder / "page.html";
  const Outcome out =
      flashrt("demo --policy expert --episodes 2 --html " + page.string(), "TERM=xterm COLORTERM=truecolor");
  EXPECT_EQ(out.code, 0) << out.text;
  EXPECT_EQ(out.text.find('\x1b'), std::string::npos);
  EXPECT_NE(out.text.find("2/2  success"), std::string::npos) << out.text;
  EXPECT_NE(out.text.find("2 of 2 episodes succeeded"), std::string::npos) << out.text;
  EXPECT_GT(fs::file_size(page), 10'000u);
}

TEST_F(Command, DemoRecords) {
  const Outcome out = flashrt("demo --record 3 " + folder.string());
  EXPECT_EQ(out.code, 0) << out.text;
  EXPECT_TRUE(fs::exists(folder / "tabletop-1000000.bin"));
}

TEST_F(Command, EvalPrintsTheAgreedKeys) {
  const Outcome out = flashrt("eval tabletop --policy expert --episodes 10 --json --require 10");
  EXPECT_EQ(out.code, 0) << out.text;
  for (const char* key :
       {"\"episodes\": 10", "\"success_rate\": 1.0", "\"ci95\"", "\"tasks\"", "\"policy_ms_p50\""}) {
    EXPECT_NE(out.text.find(key), std::string::npos) << key << " in " << out.text;
  }
  EXPECT_EQ(flashrt("eval tabletop --policy expert --episodes 10 --require 11").code, 1);
}

TEST_F(Command, BadInputIsNamed) {
  expect_bad_input("eval tabletop --policy expert --task juggle", "found 'juggle'");
  expect_bad_input("eval libero", "");
  expect_bad_input("eval tabletop --policy expert --seed 999999", "training data");
  expect_bad_input("eval tabletop --policy expert --blank-images", "a policy that looks");
  expect_bad_input("demo --policy expert --html /no/such/folder/page.html", "/no/such/folder/page.html");
  expect_bad_input("demo --record many " + folder.string(), "'many'");
  expect_bad_input("demo --record 1 /proc/none", "/proc/none");
  expect_bad_input("demo --record 1 " + folder.string() + " --seed 5", "reserved for evaluation");
  expect_bad_input("demo --episodes 0", "--episodes");
}

TEST_F(Command, DamagedCheckpointsAreNamed) {
  expect_bad_input("demo --html '' --checkpoint " + (folder / "none").string(), "none");
  std::ofstream(folder / "config.json") << "{\"type\": \"pi05\"";
  std::ofstream(folder / "model.safetensors") << "garbage";
  expect_bad_input("demo --html '' --checkpoint " + folder.string(), folder.string());
}

}  // namespace
