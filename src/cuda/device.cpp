// Device layer over the CUDA runtime; the fatbins are loaded as libraries on first use.
#include "cuda/device.h"

#include <mutex>
#include <unordered_map>

#include "base/error.h"

#define FLASHRT_FATBIN(stem) extern "C" const unsigned char flashrt_fatbin_##stem[];
#include "fatbins.inc"
#undef FLASHRT_FATBIN

namespace flashrt::cuda {

namespace {

struct Fatbin {
  const char* name;
  const unsigned char* data;
};

const Fatbin kFatbins[] = {
#define FLASHRT_FATBIN(stem) {#stem, flashrt_fatbin_##stem},
#include "fatbins.inc"
#undef FLASHRT_FATBIN
    {nullptr, nullptr}};

// name → kernel, over all libraries; loaded once for the process.
class Kernels {
 public:
  static Kernels& instance() {
    static Kernels kernels;
    return kernels;
  }

  cudaKernel_t find(const char* name) {
    std::lock_guard lock(mutex_);
    load();
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) fail_device("this build has no kernel '{}' for the device", name);
    return found->second;
  }

 private:
  void load() {
    if (!by_name_.empty()) return;
    for (const Fatbin& fatbin : kFatbins) {
      if (fatbin.data == nullptr) break;
      cudaLibrary_t library = nullptr;
      const cudaError_t code =
          cudaLibraryLoadData(&library, fatbin.data, nullptr, nullptr, 0, nullptr, nullptr, 0);
      if (code == cudaErrorNoKernelImageForDevice) {  // another generation's file
        cudaGetLastError();
        continue;
      }
      checked(code);
      unsigned count = 0;
      checked(cudaLibraryGetKernelCount(&count, library));
      std::vector<cudaKernel_t> kernels(count);
      if (count > 0) checked(cudaLibraryEnumerateKernels(kernels.data(), count, library));
      for (cudaKernel_t kernel : kernels) {
        const char* name = nullptr;
        checked(cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)));
        by_name_.emplace(name, kernel);
      }
    }
  }

  std::mutex mutex_;
  std::unordered_map<std::string, cudaKernel_t> by_name_;
};

}  // namespace

void checked(cudaError_t code, std::source_location at) {
  if (code == cudaSuccess) return;
  cudaGetLastError();
  fail_device("{}:{}: CUDA: {} ({})", at.file_name(), at.line(), cudaGetErrorString(code),
              cudaGetErrorName(code));
}

Probe probe(int ordinal) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver || code == cudaErrorNoDevice || code == cudaErrorStubLibrary ||
      count == 0) {
    cudaGetLastError();
    return {std::nullopt, code == cudaErrorInsufficientDriver
                              ? "no NVIDIA driver, or one too old for CUDA 12.8"
                              : "no NVIDIA GPU"};
  }
  checked(code);
  if (ordinal >= count) fail("--device cuda:{}: this machine has {} GPU(s)", ordinal, count);
  cudaDeviceProp prop{};
  checked(cudaGetDeviceProperties(&prop, ordinal));
  Device device{.ordinal = ordinal,
                .sm = prop.major * 10 + prop.minor,
                .processors = prop.multiProcessorCount,
                .shared_bytes = int(prop.sharedMemPerBlockOptin),
                .name = prop.name};
  if (device.sm < 80) {
    return {std::nullopt,
            fmt::format("{} is sm_{}; FlashRT needs sm_80 (Ampere) or later", prop.name, device.sm)};
  }
  checked(cudaSetDevice(ordinal));
  // No kernel calls itself or what is not known: by default the driver keeps 1 KB of stack for every thread
  // there can be, 208 MB on an H200.
  checked(cudaDeviceSetLimit(cudaLimitStackSize, 256));
  return {device, ""};
}

void Free::operator()(void* p) const noexcept {
  if (pinned) {
    cudaFreeHost(p);
  } else {
    cudaFree(p);
  }
}

Memory allocate(size_t bytes, const char* purpose) {
  void* p = nullptr;
  const cudaError_t code = cudaMalloc(&p, std::max<size_t>(bytes, 1));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t available = 0, total = 0;
    checked(cudaMemGetInfo(&available, &total));
    fail("out of device memory: {} needs {:.1f} MB, {:.1f} of {:.1f} MB are free", purpose,
         double(bytes) / 1e6, double(available) / 1e6, double(total) / 1e6);
  }
  checked(code);
  return Memory(p, Free{false});
}

Memory allocate_pinned(size_t bytes) {
  void* p = nullptr;
  checked(cudaMallocHost(&p, std::max<size_t>(bytes, 1)));
  return Memory(p, Free{true});
}

cudaKernel_t find_kernel(const char* name) { return Kernels::instance().find(name); }

decltype(&cuTensorMapEncodeTiled) tensor_map_function() {
  static const auto function = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    checked(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
    if (entry == nullptr) fail_device("the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }();
  return function;
}

void launch(const Launch& launch, cudaStream_t stream) {
  cudaLaunchAttribute attributes[3];
  unsigned count = 0;
  if (launch.dependent) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (launch.cluster.x > 0) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {launch.cluster.x, launch.cluster.y, launch.cluster.z};
  }
  if (launch.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  const cudaLaunchConfig_t config{.gridDim = launch.grid,
                                  .blockDim = launch.block,
                                  .dynamicSmemBytes = launch.shared_bytes,
                                  .stream = stream,
                                  .attrs = attributes,
                                  .numAttrs = count};
  void* args[] = {const_cast<std::byte*>(launch.params.data()),
                  const_cast<std::byte*>(launch.more_params.data())};
  const cudaError_t code = cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(launch.handle), args);
  if (code != cudaSuccess) {
    cudaGetLastError();
    fail_device("launching {}: {}", launch.kernel, cudaGetErrorString(code));
  }
}

}  // namespace flashrt::cuda
