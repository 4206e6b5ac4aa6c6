// .npy: what is accepted is written and read back the same.
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "io/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  try {
    const NpyArray array = parse_npy(std::as_bytes(std::span(data, size)), "fuzz");
    const std::string bytes = npy_bytes(array.shape, array.values);
    const NpyArray again = parse_npy(std::as_bytes(std::span(bytes)), "again");
    if (again.shape != array.shape || again.values.size() != array.values.size()) std::abort();
    const size_t count = array.values.size() * sizeof(float);
    if (count > 0 && std::memcmp(again.values.data(), array.values.data(), count) != 0) std::abort();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
