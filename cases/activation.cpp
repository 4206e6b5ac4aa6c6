// Activations and gated pairs.
#include "ops/activation.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case activation_case(Activation kind, int64_t rows, int64_t cols, bool bench = false) {
  static constexpr const char* names[] = {"none", "gelu", "silu", "geglu", "swiglu"};
  return {.op = "activation",
          .name = fmt::format("{} {}x{}", names[int(kind)], rows, cols),
          .record =
              [=](CaseRecorder& c) {
                const Tensor x = c.normal({rows, is_pair(kind) ? 2 * cols : cols}, 2);
                if (kind == Activation::gelu) gelu(x);
                if (kind == Activation::silu) silu(x);
                if (kind == Activation::geglu) geglu(x);
                if (kind == Activation::swiglu) swiglu(x);
              },
          .bench = bench};
}

}  // namespace

std::vector<Case> activation_cases() {
  std::vector<Case> cases;
  for (Activation kind : {Activation::gelu, Activation::silu, Activation::geglu, Activation::swiglu}) {
    for (auto [rows, cols] : {std::pair{1, 1}, {3, 7}, {2, 4304}, {17, 100}, {51, 1024}}) {
      cases.push_back(activation_case(kind, rows, cols));
    }
  }
  cases.push_back(activation_case(Activation::geglu, 968, 16384, true));
  cases.push_back(activation_case(Activation::gelu, 768, 4304, true));
  return cases;
}

}  // namespace flashrt
