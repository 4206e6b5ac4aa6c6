// Runs the real executable, and makes files that it should like or refuse.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace flashrt {

namespace fs = std::filesystem;

inline std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void spill(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// A directory of this process's own, removed at the end.
inline const fs::path& scratch() {
  struct Directory {
    fs::path path = fs::path(testing::TempDir()) / fmt::format("flashrt-cli-{}", getpid());
    Directory() { fs::create_directories(path); }
    ~Directory() { fs::remove_all(path); }
  };
  static const Directory directory;
  return directory.path;
}

struct Ran {
  int code = -1;  // 128 + signal when killed
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};

// Runs `flashrt arguments…` without a shell; its stdin is this file.
inline Ran flashrt_run(std::vector<std::string> arguments, const std::string& input = "/dev/null") {
  const std::string out = scratch() / "stdout", err = scratch() / "stderr";
  arguments.insert(arguments.begin(), FLASHRT_EXECUTABLE);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(input.c_str(), O_RDONLY), 0);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(out), slurp(err)};
}

inline void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    EXPECT_NE(text.find(word), text.npos) << "'" << word << "' in: " << text;
}

// Exit code 2, nothing on stdout, and one message with these words.
inline void expect_refused(const std::vector<std::string>& arguments, const std::vector<std::string>& words) {
  const Ran ran = flashrt_run(arguments);
  SCOPED_TRACE(fmt::format("flashrt {}", fmt::join(arguments, " ")));
  EXPECT_EQ(ran.code, 2) << ran.err;
  EXPECT_EQ(ran.out, "");
  expect_words(ran.err, words);
  for (const char* bad : {"Sanitizer", "terminate called", "internal error"})
    EXPECT_EQ(ran.err.find(bad), ran.err.npos) << ran.err;
}

// A tiny random checkpoint, made once by `flashrt synth`; --dtype f32, two cameras, a tokenizer.
inline std::string tiny_checkpoint(const std::string& family = "pi05") {
  const std::string path = scratch() / family;
  if (!fs::exists(path)) {
    const Ran made = flashrt_run({"synth",           path,
                                  "--family",        family,
                                  "--layers",        "2",
                                  "--vision-layers", "1",
                                  "--vocab",         "1024",
                                  "--horizon",       "4",
                                  "--steps",         "2",
                                  "--cameras",       "2",
                                  "--image-size",    "28",
                                  "--state-dim",     "6",
                                  "--action-dim",    "5",
                                  "--dtype",         "f32",
                                  "--tokenizer",     FLASHRT_TEST_DATA "/tokenizer/gemma_like.json"});
    EXPECT_EQ(made.code, 0) << made.err;
  }
  return path;
}

// A copy of a directory to spoil.
inline fs::path copy_of(const fs::path& directory) {
  static int count = 0;
  const fs::path copy = scratch() / fmt::format("copy{}", count++);
  fs::copy(directory, copy, fs::copy_options::recursive);
  return copy;
}

inline std::vector<std::string> run_arguments(const std::string& checkpoint) {
  return {"run",      checkpoint,
          "--image",  FLASHRT_TEST_DATA "/image/rgb.png",
          "--image",  FLASHRT_TEST_DATA "/image/444.jpg",
          "--state",  "0.1,-0.2,0,0.3,0,0.5",
          "--prompt", "pick up the block",
          "--device", "cpu"};
}

inline std::vector<std::string> with(std::vector<std::string> arguments,
                                     const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Replaces the value behind an option.
inline std::vector<std::string> replaced(std::vector<std::string> arguments, const std::string& option,
                                         const std::string& value) {
  *(std::find(arguments.begin(), arguments.end(), option) + 1) = value;
  return arguments;
}

}  // namespace flashrt
