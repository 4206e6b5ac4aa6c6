// Building and running a program on the device.
#include "cuda/executor.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace flashrt::cuda {

namespace {

constexpr size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

// Calls `use(root id)` for every tensor that a line reads or writes.
template <class F>
void for_each_root(const Program& program, F&& use) {
  for (const Line& line : program.lines) {
    for (int id : line.in) {
      if (id >= 0) use(program.root(id));
    }
    for (int id : line.out) use(program.root(id));
  }
}

// "name" allows only that implementation, "-name,-other" all but those.
bool allows(std::string_view rule, std::string_view name) {
  if (!rule.starts_with('-')) return rule == name;
  for (size_t begin = 0; begin < rule.size();) {
    const size_t end = std::min(rule.find(',', begin), rule.size());
    if (rule.substr(begin + 1, end - begin - 1) == name) return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace

const Implementation* choose(const Program& program, const Line& line, const Device& device,
                             const std::map<std::string, std::string>& force) {
  const Problem problem{.program = program, .line = line, .device = device};
  const auto forced = force.find(line.op->name);
  for (const Implementation& candidate : implementations(*line.op)) {
    if (forced != force.end() && !allows(forced->second, candidate.name)) continue;
    if (candidate.fits(problem)) return &candidate;
  }
  return nullptr;
}

Executor::Executor(Program& program, const Device& device, WeightStore& weights, ExecutorOptions options)
    : program_(program), device_(device), options_(std::move(options)), plan_(plan_memory(program)) {
  checked(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  place_memory(weights);
  select(options_);
  stacks_.build(program_, device_, address_, options_.force, stream_);
  prepare_launches();
  graph_ = capture(true, 0, true);
  stage_ms_.assign(program_.stages.size(), NAN);
}

Executor::~Executor() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  for (auto& of_upload : steps_) {
    for (cudaGraphExec_t graph : of_upload) {
      if (graph != nullptr) cudaGraphExecDestroy(graph);
    }
  }
  for (cudaEvent_t event : stepped_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (cudaEvent_t event : stage_events_) cudaEventDestroy(event);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void Executor::place_memory(WeightStore& weights) {
  const Executor* other = options_.state_of;
  arena_ = other != nullptr ? other->arena_ : std::make_shared<GrowingMemory>(device_.ordinal);
  arena_->grow(size_t(plan_.arena_bytes) + 256);
  host_in_ = allocate_pinned(size_t(plan_.input_bytes));
  host_out_[0] = allocate_pinned(size_t(plan_.output_bytes));
  std::memset(host_in_.get(), 0, size_t(plan_.input_bytes));

  std::vector<size_t> offset(program_.tensors.size(), 0);
  std::vector<bool> used(program_.tensors.size(), false);
  for_each_root(program_, [&](int root) { used[size_t(root)] = true; });
  for (size_t id = 0; id < used.size(); ++id) {  // by id: programs that share a state agree on its layout
    const TensorInfo& t = program_.tensors[id];
    size_t* total = t.kind == Kind::state      ? &state_bytes_
                    : t.kind == Kind::constant ? &constant_bytes_
                                               : nullptr;
    if (total == nullptr || !used[id]) continue;
    offset[id] = *total;
    *total += aligned(t.bytes());
  }
  if (other != nullptr) {
    check(other->state_bytes_ == state_bytes_, "programs that share a state have the same state tensors");
    state_ = other->state_;
  } else {
    state_ = allocate(state_bytes_, "the cache");
    checked(cudaMemset(state_.get(), 0, std::max<size_t>(state_bytes_, 1)));
  }
  constants_ = allocate(constant_bytes_ + 256, "folded constants");

  std::vector<std::pair<const Weight*, DType>> needed;
  for (size_t id = 0; id < used.size(); ++id) {
    const TensorInfo& t = program_.tensors[id];
    if (used[id] && t.kind == Kind::weight) needed.emplace_back(t.weight.get(), t.dtype);
  }
  weights.reserve(needed);

  std::vector<std::byte> host(constant_bytes_);
  address_.assign(program_.tensors.size(), nullptr);
  for (size_t id = 0; id < program_.tensors.size(); ++id) {
    const int root = program_.root(int(id));
    const TensorInfo& base = program_.info(root);
    std::byte* memory = nullptr;
    switch (base.kind) {
      case Kind::weight:
        if (!used[size_t(root)]) continue;
        memory = static_cast<std::byte*>(weights.upload(*base.weight, base.dtype));
        break;
      case Kind::constant:
        if (!used[size_t(root)]) continue;
        memory = static_cast<std::byte*>(constants_.get()) + offset[size_t(root)];
        if (root == int(id)) {
          for (size_t e = 0; e < base.values->size(); ++e) {
            store_float(host.data() + offset[id], base.dtype, e, (*base.values)[e]);
          }
        }
        break;
      case Kind::state: memory = static_cast<std::byte*>(state_.get()) + offset[size_t(root)]; break;
      default:
        if (plan_.offset[size_t(root)] < 0) continue;
        memory = arena_->data() + plan_.offset[size_t(root)];
    }
    address_[id] = memory + program_.root_byte_offset(int(id));
  }
  checked(cudaMemcpy(constants_.get(), host.data(), constant_bytes_, cudaMemcpyHostToDevice));
  weights.finish();
}

void Executor::select(const ExecutorOptions& options) {
  std::vector<const Implementation*> selected;
  size_t shared = 0;  // of the lines that need theirs no longer than they run
  for (const Line& line : program_.lines) {
    const Implementation* implementation = choose(program_, line, device_, options.force);
    if (implementation == nullptr) {
      std::string shapes;
      for (int id : line.in) {
        if (id >= 0) {
          const TensorInfo& t = program_.info(id);
          shapes += fmt::format(" {}[{}, {}]", name_of(t.dtype), t.shape.rows, t.shape.cols);
        }
      }
      fail_device("{}: {} has no implementation on sm_{} for{} {{{}}}", to_string(line.at), line.op->name,
                  device_.sm, shapes, line.op->describe != nullptr ? line.op->describe(line) : "");
    }
    const Problem problem{.program = program_, .line = line, .device = device_};
    if (implementation->workspace != nullptr) {
      const size_t bytes = aligned(implementation->workspace(problem));
      if (implementation->transient)
        shared = std::max(shared, bytes);
      else
        workspace_bytes_ += bytes;
    }
    selected.push_back(implementation);
    chosen_.emplace_back(implementation->name);
  }
  const size_t shared_at = workspace_bytes_;
  workspace_bytes_ += shared;
  workspace_ = allocate(workspace_bytes_, "kernel workspaces");
  checked(cudaMemset(workspace_.get(), 0, std::max<size_t>(workspace_bytes_, 1)));

  auto* workspace = static_cast<std::byte*>(workspace_.get());
  for (size_t i = 0; i < program_.lines.size(); ++i) {
    Problem problem{.program = program_,
                    .line = program_.lines[i],
                    .device = device_,
                    .address = address_,
                    .workspace = workspace};
    if (selected[i]->transient)
      problem.workspace = static_cast<std::byte*>(workspace_.get()) + shared_at;
    else if (selected[i]->workspace != nullptr)
      workspace += aligned(selected[i]->workspace(problem));
    const size_t first = launches_.size();
    selected[i]->launch(problem, launches_);
    for (size_t j = std::max<size_t>(first, 1); j < launches_.size(); ++j) {
      if (launches_[j - 1].must_end) launches_[j].dependent = false;
    }
    of_line_.emplace_back(first, launches_.size());
  }
}

void Executor::prepare_launches() {
  const auto prepare = [](Launch& launch) {
    launch.handle = find_kernel(launch.kernel.c_str());
    const auto* kernel = reinterpret_cast<const void*>(launch.handle);
    // One carveout for all: a change of it between kernels would drain the multiprocessors.
    checked(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared));
    cudaFuncAttributes present{};
    checked(cudaFuncGetAttributes(&present, kernel));
    if (int(launch.shared_bytes) >
        present.maxDynamicSharedSizeBytes) {  // raised only: other launches share the kernel
      checked(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   int(launch.shared_bytes)));
    }
    if (launch.cluster.x * launch.cluster.y * launch.cluster.z > 8) {
      checked(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    }
  };
  std::ranges::for_each(launches_, prepare);
  for (LayerStack& stack : stacks_.all()) prepare(stack.launch);
}

void Executor::upload_inputs() {
  if (plan_.input_bytes == 0) return;
  checked(cudaMemcpyAsync(arena_->data() + plan_.input_begin, host_in_.get(), size_t(plan_.input_bytes),
                          cudaMemcpyHostToDevice, stream_));
}

void Executor::download_outputs(int slot) {
  if (plan_.output_bytes == 0) return;
  checked(cudaMemcpyAsync(host_out_[slot].get(), arena_->data() + plan_.output_begin,
                          size_t(plan_.output_bytes), cudaMemcpyDeviceToHost, stream_));
}

void Executor::enqueue_all(bool upload, int slot, bool stages) {
  size_t event = 0;
  const auto mark = [&](int stage) {
    if (!options_.stage_times || !stages) return;
    if (event == stage_events_.size()) {
      checked(cudaEventCreate(&stage_events_.emplace_back()));
      stage_of_event_.push_back(stage);
    }
    checked(cudaEventRecordWithFlags(stage_events_[event++], stream_, cudaEventRecordExternal));
  };
  if (upload) upload_inputs();
  for (size_t i = 0; i < program_.lines.size(); ++i) {
    if (i == 0 || program_.lines[i].stage != program_.lines[i - 1].stage) mark(program_.lines[i].stage);
    if (const LayerStack* stack = stacks_.at(i)) {
      launch(stack->launch, stream_);
      i += stack->count - 1;
      continue;
    }
    for (size_t j = of_line_[i].first; j < of_line_[i].second; ++j) launch(launches_[j], stream_);
  }
  mark(-1);
  download_outputs(slot);
}

cudaGraphExec_t Executor::capture(bool upload, int slot, bool stages) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  checked(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  enqueue_all(upload, slot, stages);
  checked(cudaStreamEndCapture(stream_, &graph));
  checked(cudaGraphInstantiate(&executable, graph, 0));
  checked(cudaGraphDestroy(graph));
  checked(cudaGraphUpload(executable, stream_));
  checked(cudaStreamSynchronize(stream_));
  return executable;
}

void Executor::prepare_steps() {
  if (stepped_[0] != nullptr) return;
  host_out_[1] = allocate_pinned(size_t(plan_.output_bytes));
  for (int slot : {0, 1}) {
    checked(cudaEventCreateWithFlags(&stepped_[slot], cudaEventDisableTiming));
    for (bool upload : {false, true}) steps_[upload][slot] = capture(upload, slot, false);
  }
}

cudaError_t Executor::start(bool upload) noexcept {
  const int slot = started_++ & 1;
  const cudaError_t code = cudaGraphLaunch(steps_[upload][slot], stream_);
  return code == cudaSuccess ? cudaEventRecord(stepped_[slot], stream_) : code;
}

cudaError_t Executor::finish() noexcept {
  shown_ = finished_++ & 1;
  cudaError_t code = cudaEventQuery(stepped_[shown_]);
  while (code == cudaErrorNotReady) code = cudaEventQuery(stepped_[shown_]);
  return code;
}

cudaError_t Executor::run() noexcept {
  shown_ = 0;
  cudaError_t code = cudaGraphLaunch(graph_, stream_);
  if (code == cudaSuccess) code = cudaStreamSynchronize(stream_);
  for (size_t e = 0; code == cudaSuccess && e + 1 < stage_events_.size(); ++e) {
    code =
        cudaEventElapsedTime(&stage_ms_[size_t(stage_of_event_[e])], stage_events_[e], stage_events_[e + 1]);
  }
  return code;
}

void Executor::begin() {
  if (options_.poison) {
    const size_t begin = size_t(plan_.input_begin + plan_.input_bytes);
    checked(cudaMemsetAsync(arena_->data() + begin, 0xff, size_t(plan_.arena_bytes) - begin, stream_));
  }
  upload_inputs();
  checked(cudaStreamSynchronize(stream_));
}

void Executor::step(size_t line) {
  for (size_t j = of_line_[line].first; j < of_line_[line].second; ++j) launch(launches_[j], stream_);
  if (const cudaError_t code = cudaStreamSynchronize(stream_); code != cudaSuccess) {
    const Line& failed = program_.lines[line];
    fail_device("line {}: {} at {} ({}): {}", line, failed.op->name, to_string(failed.at), chosen_[line],
                cudaGetErrorString(code));
  }
}

void Executor::read(int id, void* to) const {
  checked(cudaMemcpy(to, address_[size_t(id)], program_.info(id).bytes(), cudaMemcpyDeviceToHost));
}

std::vector<float> Executor::profile(int repeats) {
  std::vector<float> median;
  cudaEvent_t begin = nullptr, end = nullptr;
  checked(cudaEventCreate(&begin));
  checked(cudaEventCreate(&end));
  std::vector<std::vector<float>> samples(program_.lines.size());
  for (int repeat = 0; repeat < repeats; ++repeat) {
    upload_inputs();
    for (size_t i = 0; i < program_.lines.size(); ++i) {
      checked(cudaEventRecord(begin, stream_));
      for (size_t j = of_line_[i].first; j < of_line_[i].second; ++j) launch(launches_[j], stream_);
      checked(cudaEventRecord(end, stream_));
      checked(cudaEventSynchronize(end));
      checked(cudaEventElapsedTime(&samples[i].emplace_back(), begin, end));
    }
  }
  for (auto& line : samples) {
    std::ranges::nth_element(line, line.begin() + repeats / 2);
    median.push_back(line[size_t(repeats / 2)]);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return median;
}

std::span<std::byte> Executor::input(std::string_view name) {
  for (const auto& [known, id] : program_.inputs) {
    if (known != name) continue;
    const int64_t offset = plan_.offset[size_t(id)] - plan_.input_begin;
    return {static_cast<std::byte*>(host_in_.get()) + offset, program_.info(id).bytes()};
  }
  fail("program has no input '{}'", name);
}

std::span<const std::byte> Executor::output(std::string_view name) const {
  for (const auto& [known, id] : program_.outputs) {
    if (known != name) continue;
    const int64_t offset =
        plan_.offset[size_t(program_.root(id))] + program_.root_byte_offset(id) - plan_.output_begin;
    return {static_cast<const std::byte*>(host_out_[shown_].get()) + offset, program_.info(id).bytes()};
  }
  fail("program has no output '{}'", name);
}

size_t Executor::launch_count() const {
  size_t count = 0;
  for (size_t i = 0; i < program_.lines.size(); ++i) {
    const LayerStack* stack = stacks_.at(i);
    count += stack != nullptr ? 1 : of_line_[i].second - of_line_[i].first;
    if (stack != nullptr) i += stack->count - 1;
  }
  return count;
}

Executor::MemoryUse Executor::memory() const {
  const bool owner = options_.state_of == nullptr;
  return {.state = owner ? state_bytes_ : 0,
          .activations = owner ? arena_->bytes() : 0,
          .constants = constant_bytes_,
          .workspaces = workspace_bytes_ + stacks_.device_bytes()};
}

}  // namespace flashrt::cuda
