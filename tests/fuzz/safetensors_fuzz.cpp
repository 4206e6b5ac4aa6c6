// safetensors: an accepted file has every tensor inside the file, of the size its shape says.
#include <cstdlib>

#include "base/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flashrt;
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const SafetensorsFile file(bytes, "fuzz");
    for (const TensorView& tensor : file.tensors()) {
      size_t expected = size_of(tensor.dtype);
      for (const int64_t dim : tensor.shape) expected *= size_t(dim);
      if (tensor.bytes.size() != expected || file.find(tensor.name) != &tensor) std::abort();
      if (tensor.bytes.data() < bytes.data()) std::abort();
      if (tensor.bytes.data() + tensor.bytes.size() > bytes.data() + bytes.size()) std::abort();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) std::abort();
  }
  return 0;
}
