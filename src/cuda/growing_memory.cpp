// Reserved addresses, and physical memory mapped to them as it is asked for.
#include "cuda/growing_memory.h"

#include "base/error.h"
#include "cuda/device.h"

namespace flashrt::cuda {

namespace {

// The driver's functions, found at run time: the program does not link the driver.
template <class F>
F* find_function(const char* name) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  checked(cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &found));
  if (entry == nullptr) fail_device("the driver has no {}", name);
  return reinterpret_cast<F*>(entry);
}

struct Functions {
  decltype(&cuMemGetAllocationGranularity) granularity =
      find_function<decltype(cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity");
  decltype(&cuMemAddressReserve) reserve =
      find_function<decltype(cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) free = find_function<decltype(cuMemAddressFree)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = find_function<decltype(cuMemCreate)>("cuMemCreate");
  decltype(&cuMemRelease) release = find_function<decltype(cuMemRelease)>("cuMemRelease");
  decltype(&cuMemMap) map = find_function<decltype(cuMemMap)>("cuMemMap");
  decltype(&cuMemUnmap) unmap = find_function<decltype(cuMemUnmap)>("cuMemUnmap");
  decltype(&cuMemSetAccess) set_access = find_function<decltype(cuMemSetAccess)>("cuMemSetAccess");
};
const Functions& driver() {
  static const Functions functions;
  return functions;
}

void require(CUresult code, const char* what) {
  if (code != CUDA_SUCCESS) fail_device("{}: driver error {}", what, int(code));
}

}  // namespace

GrowingMemory::GrowingMemory(int ordinal) {
  kind_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  kind_.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal};
  require(driver().granularity(&granularity_, &kind_, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
          "memory granularity");
  size_t available = 0, total = 0;
  checked(cudaMemGetInfo(&available, &total));
  reserved_ = (total + granularity_ - 1) / granularity_ * granularity_;
  require(driver().reserve(&address_, reserved_, 0, 0, 0), "reserving addresses");
}

GrowingMemory::~GrowingMemory() {
  if (bytes_ > 0) driver().unmap(address_, bytes_);
  for (const CUmemGenericAllocationHandle part : parts_) driver().release(part);
  if (address_ != 0) driver().free(address_, reserved_);
}

void GrowingMemory::grow(size_t bytes) {
  if (bytes <= bytes_) return;
  const size_t more = (bytes - bytes_ + granularity_ - 1) / granularity_ * granularity_;
  CUmemGenericAllocationHandle part = 0;
  const CUresult code =
      bytes_ + more > reserved_ ? CUDA_ERROR_OUT_OF_MEMORY : driver().create(&part, more, &kind_, 0);
  if (code == CUDA_ERROR_OUT_OF_MEMORY) {
    size_t available = 0, total = 0;
    checked(cudaMemGetInfo(&available, &total));
    fail("out of device memory: activations need {:.1f} MB more, {:.1f} of {:.1f} MB are free",
         double(more) / 1e6, double(available) / 1e6, double(total) / 1e6);
  }
  require(code, "memory for activations");
  parts_.push_back(part);
  require(driver().map(address_ + bytes_, more, 0, part, 0), "mapping memory");
  const CUmemAccessDesc access{.location = kind_.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  require(driver().set_access(address_ + bytes_, more, &access, 1), "access to memory");
  bytes_ += more;
}

}  // namespace flashrt::cuda
