// A program on a device: launches chosen and prepared, memory planned, captured once as a graph.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/growing_memory.h"
#include "cuda/layer_stack.h"
#include "cuda/weights.h"
#include "tape/program.h"

namespace flashrt::cuda {

struct ExecutorOptions {
  std::map<std::string, std::string> force;  // op → implementation, or "-name,-name" to exclude
  bool poison = false;                       // eager runs fill the arena with NaN first
  bool stage_times = true;                   // record an event at the borders of stages
  const class Executor* state_of = nullptr;  // share the state of this program, which has the same state
                                             // tensors and never runs at the same time
};

class Executor {
 public:
  // Uploads weights and constants, plans memory, selects implementations, captures the graph. Throws
  // Error(device) naming the model's line when an op has no implementation for the problem. The program must
  // outlive the executor.
  Executor(Program& program, const Device& device, WeightStore& weights, ExecutorOptions options = {});
  ~Executor();
  Executor(const Executor&) = delete;

  // Pinned host memory of an input or output.
  std::span<std::byte> input(std::string_view name);
  std::span<const std::byte> output(std::string_view name) const;

  // One graph launch, then a wait. Returns cudaSuccess or the device's error. No allocation, no lock, no log.
  cudaError_t run() noexcept;
  // Two runs on their way at once, each with outputs of its own: `start` launches one, with the inputs as the
  // host wrote them or as the last run left them on the device; `finish` waits for the earlier one, whose
  // outputs `output` then shows.
  void prepare_steps();  // once, before the first start
  cudaError_t start(bool upload) noexcept;
  cudaError_t finish() noexcept;
  // Line by line without a graph: `begin` uploads the inputs (and poisons the arena), `step` runs one line
  // and waits.
  void begin();
  void step(size_t line);
  // Copies a tensor of the device to `to` (its bytes as stored).
  void read(int id, void* to) const;

  // Milliseconds of each stage in the last run(); index as Program::stages. NaN where a stage has no lines.
  std::span<const float> stage_ms() const { return stage_ms_; }
  // Median milliseconds of each line, launched alone `repeats` times in a row.
  std::vector<float> profile(int repeats);

  const Plan& plan() const { return plan_; }
  // Bytes on the device beside the weights. What is shared with `state_of` counts there.
  struct MemoryUse {
    size_t state = 0, activations = 0, constants = 0, workspaces = 0;
  };
  MemoryUse memory() const;
  size_t launch_count() const;  // of one run
  std::string implementation(size_t line) const { return chosen_[line]; }
  cudaStream_t stream() const { return stream_; }

 private:
  void place_memory(WeightStore& weights);
  void select(const ExecutorOptions& options);
  void prepare_launches();
  cudaGraphExec_t capture(bool upload, int slot, bool stages);
  void enqueue_all(bool upload, int slot, bool stages);
  void upload_inputs();
  void download_outputs(int slot);

  Program& program_;
  Device device_;
  ExecutorOptions options_;
  Plan plan_;
  std::shared_ptr<void> state_;
  // Programs that share a state run one at a time, and share the memory of their activations too.
  std::shared_ptr<GrowingMemory> arena_;
  Memory constants_, workspace_, host_in_, host_out_[2];
  size_t state_bytes_ = 0, constant_bytes_ = 0, workspace_bytes_ = 0;
  std::vector<void*> address_;       // by tensor id
  std::vector<std::string> chosen_;  // by line
  std::vector<Launch> launches_;
  std::vector<std::pair<size_t, size_t>> of_line_;  // launch range of each line
  LayerStacks stacks_;                              // stretches of lines that run() launches at once
  std::vector<cudaEvent_t> stage_events_;  // one before the first line and one after each stage's last
  std::vector<int> stage_of_event_;
  std::vector<float> stage_ms_;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  cudaGraphExec_t steps_[2][2] = {};  // by upload and slot
  cudaEvent_t stepped_[2] = {};
  int started_ = 0, finished_ = 0, shown_ = 0;
};

// The first implementation that fits the line, or null.
const Implementation* choose(const Program& program, const Line& line, const Device& device,
                             const std::map<std::string, std::string>& force = {});

}  // namespace flashrt::cuda
