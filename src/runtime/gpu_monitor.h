// Clocks and power of the GPU while something runs, through the driver's management library when it is there.
#pragma once

#include <memory>
#include <optional>

namespace flashrt {

struct GpuReading {
  double sm_mhz = 0, memory_mhz = 0, watts = 0;  // means over the samples
  bool throttled = false;                        // for heat or power, at any sample
  int samples = 0;
};

// Samples ten times a second between construction and stop(). Without the library stop() returns nothing.
class GpuMonitor {
 public:
  explicit GpuMonitor(int ordinal = 0);
  ~GpuMonitor();
  std::optional<GpuReading> stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flashrt
