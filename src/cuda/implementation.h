// The contract between the tape and device code: a problem, its implementations, and the launches they make.
#pragma once

#include <cuda_runtime_api.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tape/program.h"

namespace flashrt::cuda {

// The device a program is built for.
struct Device {
  int ordinal = 0;
  int sm = 0;            // 80, 89, 90, 100, 120 …
  int processors = 0;    // streaming multiprocessors
  int shared_bytes = 0;  // largest dynamic shared memory of a block
  std::string name;
};

// One line on one device: the whole physical contract. Addresses exist only when launches are made.
struct Problem {
  const Program& program;
  const Line& line;
  const Device& device;
  std::span<void* const> address;  // device address by tensor id
  void* workspace = nullptr;       // as many bytes as the implementation asked for, 256-byte aligned

  bool has(size_t i) const { return line.has(i); }
  Shape in(size_t i) const { return program.info(line.in[i]).shape; }
  Shape out(size_t j) const { return program.info(line.out[j]).shape; }
  DType in_type(size_t i) const { return program.info(line.in[i]).dtype; }
  DType out_type(size_t j) const { return program.info(line.out[j]).dtype; }
  template <class T>
  T* in_data(size_t i) const {  // null when the operand is absent
    return has(i) ? static_cast<T*>(address[size_t(line.in[i])]) : nullptr;
  }
  template <class T>
  T* out_data(size_t j) const {
    return static_cast<T*>(address[size_t(line.out[j])]);
  }
  // Elements between rows: a matrix of the checkpoint may be stored with padded rows (a multiple of 8
  // elements).
  int64_t in_stride(size_t i) const;
};

// Elements between the rows of a weight on the device: the width rounded up to 8, so that rows start on 16
// bytes, or to whole 128-byte lines where that costs next to nothing.
constexpr int64_t weight_stride(int64_t cols) {
  const int64_t unit = cols > 1024 ? 64 : 8;
  return (cols + unit - 1) / unit * unit;
}

// One kernel launch, ready to be repeated: kernels take a single struct by value.
struct Launch {
  std::string kernel;  // the extern "C" name, looked up in the embedded device code
  dim3 grid{1}, block{1};
  unsigned shared_bytes = 0;
  dim3 cluster{0};        // cluster dimensions; x = 0: launched without clusters
  bool dependent = true;  // may start before the previous launch ends (PDL); it then waits itself
  bool must_end =
      false;  // the next launch starts behind its end: writes what others read as weights, unwaited
  bool cooperative = false;       // its blocks wait for each other: all of them or none are on the device
  std::vector<std::byte> params;  // the kernel's argument, and a second one where a kernel has two
  std::vector<std::byte> more_params;
  cudaKernel_t handle = nullptr;  // filled when the program is prepared

  template <class Params>
  static Launch of(std::string kernel, dim3 grid, dim3 block, const Params& params,
                   unsigned shared_bytes = 0) {
    static_assert(std::is_trivially_copyable_v<Params>);
    Launch launch{.kernel = std::move(kernel), .grid = grid, .block = block, .shared_bytes = shared_bytes};
    launch.params.resize(sizeof params);
    std::memcpy(launch.params.data(), &params, sizeof params);
    return launch;
  }
};

// One way to compute an op on a device. The first implementation of an op's table that fits is taken, unless
// the device's tuning file names another.
struct Implementation {
  const char* name;
  bool (*fits)(const Problem&);                              // addresses are not known yet
  void (*launch)(const Problem&, std::vector<Launch>& out);  // appends one launch or several
  size_t (*workspace)(const Problem&) = nullptr;  // bytes; null for none. Zeroed once, never between runs
  bool transient = false;                         // it holds nothing beyond the line: lines share one
};

// The ordered table of an op; empty when the op has no device code.
std::span<const Implementation> implementations(const OpDef& op);

}  // namespace flashrt::cuda
