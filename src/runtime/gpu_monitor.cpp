// NVML by dlopen: the few functions needed, declared here.
#include "runtime/gpu_monitor.h"

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace flashrt {

struct GpuMonitor::State {
  using Device = struct OpaqueDevice*;
  void* library = nullptr;
  int (*init)() = nullptr;
  int (*handle)(unsigned, Device*) = nullptr;
  int (*clock)(Device, int, unsigned*) = nullptr;
  int (*power)(Device, unsigned*) = nullptr;
  int (*reasons)(Device, unsigned long long*) = nullptr;
  std::atomic<bool> running{true};
  std::thread thread;
  GpuReading sum;

  template <class F>
  bool bind(F& f, const char* name) {
    f = reinterpret_cast<F>(dlsym(library, name));
    return f != nullptr;
  }

  bool open() {
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    return library != nullptr && bind(init, "nvmlInit_v2") && bind(handle, "nvmlDeviceGetHandleByIndex_v2") &&
           bind(clock, "nvmlDeviceGetClockInfo") && bind(power, "nvmlDeviceGetPowerUsage") &&
           bind(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons") && init() == 0;
  }

  void sample(Device device) {
    unsigned sm = 0, memory = 0, milliwatts = 0;
    unsigned long long why = 0;
    if (clock(device, 1, &sm) != 0 || clock(device, 2, &memory) != 0 || power(device, &milliwatts) != 0)
      return;
    if (reasons(device, &why) == 0)
      sum.throttled |= (why & 0xecull) != 0;  // power cap, slowdown, heat, brake
    sum.sm_mhz += sm, sum.memory_mhz += memory, sum.watts += milliwatts / 1e3;
    ++sum.samples;
  }
};

GpuMonitor::GpuMonitor(int ordinal) : state_(std::make_unique<State>()) {
  State& s = *state_;
  State::Device device = nullptr;
  if (!s.open() || s.handle(unsigned(ordinal), &device) != 0) return;
  s.thread = std::thread([&s, device] {
    while (s.running) {
      s.sample(device);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
}

std::optional<GpuReading> GpuMonitor::stop() {
  State& s = *state_;
  s.running = false;
  if (s.thread.joinable()) s.thread.join();
  if (s.sum.samples == 0) return std::nullopt;
  GpuReading mean = s.sum;
  mean.sm_mhz /= mean.samples, mean.memory_mhz /= mean.samples, mean.watts /= mean.samples;
  return mean;
}

GpuMonitor::~GpuMonitor() {
  stop();
  if (state_->library != nullptr) dlclose(state_->library);
}

}  // namespace flashrt
