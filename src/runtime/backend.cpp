// The passes, and the two executors behind one face.
#include "runtime/backend.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/threads.h"
#include "ops/fusion.h"
#include "ops/unpack.h"
#include "tape/reference.h"
#ifdef FLASHRT_WITH_CUDA
#include "cuda/executor.h"
#endif

namespace flashrt {

struct Backend::Gpu {
#ifdef FLASHRT_WITH_CUDA
  cuda::Device device;
  cuda::WeightStore weights;
#endif
};

Precision parse_precision(std::string_view text) {
  if (text == "auto") return Precision::automatic;
  if (text == "f32") return Precision::f32;
  if (text == "bf16") return Precision::bf16;
  if (text == "f16") return Precision::f16;
  fail("--precision: expected auto, f32, bf16 or f16, found '{}'", text);
}

std::shared_ptr<Backend> Backend::open(std::string_view device, Precision precision,
                                       [[maybe_unused]] std::function<void(size_t)> progress) {
  auto backend = std::make_shared<Backend>();
  const bool wants_gpu = device.starts_with("cuda");
  if (!wants_gpu && device != "cpu" && device != "auto") {
    fail("--device: expected auto, cpu, cuda or cuda:N, found '{}'", device);
  }
  if (device != "cpu") {
    std::string why = "this is a CPU build (no CUDA toolkit was found when it was configured)";
#ifdef FLASHRT_WITH_CUDA
    int ordinal = 0;
    if (device.starts_with("cuda:")) {
      const std::string_view digits = device.substr(5);
      if (digits.empty() || digits.size() > 2 ||
          !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) {
        fail("--device: expected cuda:N with a small number N, found '{}'", device);
      }
      for (char c : digits) ordinal = ordinal * 10 + (c - '0');
    }
    const cuda::Probe probe = cuda::probe(ordinal);
    why = probe.why_not;
    if (probe.device) {
      backend->gpu_ = std::make_shared<Gpu>();
      backend->gpu_->device = *probe.device;
      backend->gpu_->weights = cuda::WeightStore(std::move(progress));
      backend->name_ = probe.device->name;
      backend->idle_bytes_ = backend->device_used_bytes();
    }
#endif
    if (!backend->gpu_) {
      if (wants_gpu) fail("--device {}: {}", device, why);
      static const bool once = (log_info("running on the CPU: {}", why), true);
      (void)once;
    }
  }
  if (!backend->gpu_) backend->name_ = fmt::format("cpu, {} threads", thread_count());
  switch (precision) {
    case Precision::automatic: backend->compute_ = backend->gpu_ ? DType::bf16 : DType::f32; break;
    case Precision::f32: backend->compute_ = DType::f32; break;
    case Precision::bf16: backend->compute_ = DType::bf16; break;
    case Precision::f16: backend->compute_ = DType::f16; break;
  }
  return backend;
}

size_t Backend::weight_bytes() const {
#ifdef FLASHRT_WITH_CUDA
  if (gpu_) return gpu_->weights.bytes();
#endif
  return 0;
}

size_t Backend::device_used_bytes() const {
#ifdef FLASHRT_WITH_CUDA
  size_t available = 0, total = 0;
  if (gpu_ && cudaMemGetInfo(&available, &total) == cudaSuccess) return total - available;
#endif
  return 0;
}

struct Runner::Executors {
  std::optional<ReferenceExecutor> cpu;
#ifdef FLASHRT_WITH_CUDA
  std::optional<cuda::Executor> gpu;
#endif
};

Runner::Runner(std::shared_ptr<Backend> backend, std::unique_ptr<Program> program,
               const RunnerOptions& options)
    : backend_(std::move(backend)), program_(std::move(program)), executors_(std::make_unique<Executors>()) {
  folded = fold(*program_);
  dropped = drop_dead(*program_);
  std::function<bool(const Program&, const Line&)> supported = [](const Program&, const Line&) {
    return true;
  };
#ifdef FLASHRT_WITH_CUDA
  const std::map<std::string, std::string> force(options.force.begin(), options.force.end());
  const Backend& target = options.fuse_for != nullptr ? *options.fuse_for : *backend_;
  if (target.gpu_) {
    supported = [&](const Program& p, const Line& line) {
      return cuda::choose(p, line, target.gpu_->device, force) != nullptr;
    };
  }
#endif
  unpack_weights(*program_, supported);
  if (options.fuse) fused = fuse(*program_, kPatterns, supported);
  if (backend_->compute() == DType::f32)
    program_->widen();  // recorded in another device's type, see fuse_for
  stage_ms_.assign(program_->stages.size(), NAN);
#ifdef FLASHRT_WITH_CUDA
  if (backend_->gpu_) {
    executors_->gpu.emplace(
        *program_, backend_->gpu_->device, backend_->gpu_->weights,
        cuda::ExecutorOptions{.force = force,
                              .poison = options.poison,
                              .state_of = options.state_of ? &*options.state_of->executors_->gpu : nullptr});
    return;
  }
#endif
  executors_->cpu.emplace(*program_, options.poison,
                          options.state_of ? &*options.state_of->executors_->cpu : nullptr);
}

Runner::~Runner() = default;

std::span<std::byte> Runner::input(std::string_view name) {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->input(name);
#endif
  return executors_->cpu->input(name);
}

std::span<const std::byte> Runner::output(std::string_view name) const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->output(name);
#endif
  return executors_->cpu->output(name);
}

bool Runner::run() noexcept {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) {
    const cudaError_t code = executors_->gpu->run();
    if (code != cudaSuccess) error_ = cudaGetErrorString(code);
    return code == cudaSuccess;
  }
#endif
  using Clock = std::chrono::steady_clock;
  executors_->cpu->prepare_run();
  std::fill(stage_ms_.begin(), stage_ms_.end(), NAN);
  Clock::time_point begin = Clock::now();
  for (size_t i = 0; i < program_->lines.size(); ++i) {
    executors_->cpu->run_line(i);
    const int stage = program_->lines[i].stage;
    if (i + 1 < program_->lines.size() && program_->lines[i + 1].stage == stage) continue;
    const Clock::time_point end = Clock::now();
    stage_ms_[size_t(stage)] = std::chrono::duration<float, std::milli>(end - begin).count();
    begin = end;
  }
  return true;
}

bool Runner::start([[maybe_unused]] bool upload) noexcept {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) {
    cudaError_t code = cudaSuccess;
    try {
      executors_->gpu->prepare_steps();
      code = executors_->gpu->start(upload);
    } catch (const Error&) {
      code = cudaErrorUnknown;
    }
    if (code != cudaSuccess) error_ = cudaGetErrorString(code);
    return code == cudaSuccess;
  }
#endif
  return run();
}

bool Runner::finish() noexcept {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) {
    const cudaError_t code = executors_->gpu->finish();
    if (code != cudaSuccess) error_ = cudaGetErrorString(code);
    return code == cudaSuccess;
  }
#endif
  return true;
}

int Runner::overlap() const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return 2;
#endif
  return 1;
}

void Runner::begin() {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) {
    executors_->gpu->begin();
    return;
  }
#endif
  executors_->cpu->prepare_run();
}

void Runner::step(size_t line) {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) {
    executors_->gpu->step(line);
    return;
  }
#endif
  executors_->cpu->run_line(line);
}

std::vector<float> Runner::read(int tensor) const {
  const TensorInfo& info = program_->info(tensor);
  std::vector<std::byte> bytes(info.bytes());
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) executors_->gpu->read(tensor, bytes.data());
#endif
  if (executors_->cpu) std::memcpy(bytes.data(), std::as_const(*executors_->cpu).data(tensor), bytes.size());
  std::vector<float> values(size_t(info.shape.size()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = load_float(bytes.data(), info.dtype, i);
  return values;
}

std::span<const float> Runner::stage_ms() const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->stage_ms();
#endif
  return stage_ms_;
}

std::vector<float> Runner::profile(int repeats) {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->profile(repeats);
#endif
  std::vector<std::vector<float>> samples(program_->lines.size());
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (size_t i = 0; i < program_->lines.size(); ++i) {
      const auto begin = std::chrono::steady_clock::now();
      executors_->cpu->run_line(i);
      samples[i].push_back(
          std::chrono::duration<float, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
  }
  std::vector<float> median;
  for (auto& line : samples) {
    std::ranges::nth_element(line, line.begin() + repeats / 2);
    median.push_back(line[size_t(repeats / 2)]);
  }
  return median;
}

std::string Runner::implementation(size_t line) const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->implementation(line);
#endif
  (void)line;
  return "definition";
}

const Plan& Runner::plan() const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->plan();
#endif
  return executors_->cpu->plan();
}

MemoryUse Runner::memory() const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) {
    const cuda::Executor::MemoryUse use = executors_->gpu->memory();
    return {use.state, use.activations, use.constants, use.workspaces};
  }
#endif
  return {.activations = executors_->cpu->bytes()};
}

size_t Runner::launch_count() const {
#ifdef FLASHRT_WITH_CUDA
  if (executors_->gpu) return executors_->gpu->launch_count();
#endif
  return program_->lines.size();
}

}  // namespace flashrt
