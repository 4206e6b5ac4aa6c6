// Where programs run: the CPU definitions, or a GPU.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tape/program.h"

namespace flashrt {

enum class Precision { automatic, f32, bf16, f16 };  // automatic: bf16 on a GPU, f32 on the CPU
Precision parse_precision(std::string_view text);    // throws Error(input) naming the choices

class Runner;

// A chosen device with the weights that its programs share.
class Backend {
 public:
  // `device`: "auto" (a GPU when there is one, else the CPU, with one line saying why), "cpu", "cuda" or
  // "cuda:N". `progress` is told of bytes of weights made ready.
  static std::shared_ptr<Backend> open(std::string_view device, Precision precision,
                                       std::function<void(size_t)> progress = {});

  bool on_gpu() const { return gpu_ != nullptr; }
  DType compute() const { return compute_; }
  std::string name() const { return name_; }  // "cpu, 2 threads" or "NVIDIA H200"
  size_t weight_bytes() const;                // on the GPU; 0 on the CPU, where the mapped file is read
  size_t device_used_bytes() const;           // of the GPU's memory, by all that runs on it; 0 on the CPU
  size_t idle_bytes() const {
    return idle_bytes_;
  }  // the same before anything was built: what the driver takes

 private:
  friend class Runner;
  struct Gpu;
  DType compute_ = DType::f32;
  std::string name_;
  size_t idle_bytes_ = 0;
  std::shared_ptr<Gpu> gpu_;
};

struct RunnerOptions {
  bool fuse = true;
  bool poison = false;  // the CPU executor fills its arena with NaN before each run
  std::vector<std::pair<std::string, std::string>> force;  // op → implementation
  const Backend* fuse_for =
      nullptr;  // fuse what this device supports, so that lines correspond; null: the own one
  const Runner* state_of = nullptr;  // a program of the same backend and state tensors: share its state
};

// Bytes that a program has beside the weights; what it shares with another counts there.
struct MemoryUse {
  size_t state = 0, activations = 0, constants = 0, workspaces = 0;
  size_t sum() const { return state + activations + constants + workspaces; }
};

// One built program: recorded lines in, memory and launches ready.
class Runner {
 public:
  // Folds, drops, fuses, plans and prepares `program`.
  Runner(std::shared_ptr<Backend> backend, std::unique_ptr<Program> program,
         const RunnerOptions& options = {});
  ~Runner();

  std::span<std::byte> input(std::string_view name);
  std::span<const std::byte> output(std::string_view name) const;

  // Runs the program. False when the device failed; `error()` says how. No allocation, no log.
  bool run() noexcept;
  const char* error() const noexcept { return error_; }

  // Runs that overlap: `start` begins one, with the inputs as the host wrote them or (`upload` false) as the
  // run before left them; `finish` waits for the earliest that has not been waited for, whose outputs can be
  // read until the next `finish`. At most two at once; on the CPU a start is the whole run, and there is one.
  bool start(bool upload) noexcept;
  bool finish() noexcept;
  int overlap() const;  // 2 on a GPU, 1 on the CPU

  // Line by line, for diff and debugging: `begin` takes the inputs, `step` runs one line to its end.
  void begin();
  void step(size_t line);
  std::vector<float> read(int tensor) const;      // any floating tensor, as f32
  std::span<const float> stage_ms() const;        // of the last run, index as Program::stages
  std::vector<float> profile(int repeats);        // median ms of each line
  std::string implementation(size_t line) const;  // "definition" on the CPU

  const Program& program() const { return *program_; }
  const Plan& plan() const;
  MemoryUse memory() const;
  size_t memory_bytes() const { return memory().sum(); }
  size_t launch_count() const;
  int folded = 0, dropped = 0, fused = 0;  // lines, by pass

 private:
  struct Executors;
  std::shared_ptr<Backend> backend_;
  std::unique_ptr<Program> program_;
  std::unique_ptr<Executors> executors_;
  std::vector<float> stage_ms_;
  const char* error_ = "";
};

}  // namespace flashrt
