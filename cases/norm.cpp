// Row normalisations: widths of the models, widths that are no multiple of 8 or of a warp, one row and many.
#include "ops/norm.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case norm_case(NormKind kind, int64_t rows, int64_t cols, bool bench = false) {
  static constexpr const char* names[] = {"none", "layer", "rms", "ada_rms"};
  return {.op = "norm",
          .name = fmt::format("{} {}x{}", names[int(kind)], rows, cols),
          .record =
              [=](CaseRecorder& c) {
                const Tensor x = c.normal({rows, cols}, 3, 0.5f);
                if (kind == NormKind::layer) layer_norm(x, c.vector(cols, 0.2f, 1), c.vector(cols));
                if (kind == NormKind::rms) rms_norm(x, c.vector(cols));
                if (kind == NormKind::ada_rms) ada_rms_norm(x, c.vector(cols), c.vector(cols));
              },
          .tolerance = 1,
          .tolerance_f32 = 8,
          .bench = bench};
}

// A modulation computed by another line, in the program's type.
Case modulated_case() {
  return {.op = "norm", .name = "ada_rms 7x72 modulated by activations", .record = [](CaseRecorder& c) {
            const Tensor x = c.normal({7, 72});
            ada_rms_norm(x, c.normal({1, 72}, 0.2f), c.normal({1, 72}, 0.2f));
          }};
}

// f32 in, f32 out beside half types: what an exact stretch of a program records.
Case exact_case() {
  return {.op = "norm", .name = "rms 5x96 exact", .record = [](CaseRecorder& c) {
            const Tensor x = c.normal({5, 96});
            const auto exact = c.p.exact();
            rms_norm(x, c.vector(96));
          }};
}

}  // namespace

std::vector<Case> norm_cases() {
  std::vector<Case> cases;
  for (NormKind kind : {NormKind::layer, NormKind::rms, NormKind::ada_rms}) {
    for (auto [rows, cols] : {std::pair{1, 1},
                              {1, 1024},
                              {10, 1024},
                              {3, 7},
                              {2, 33},
                              {5, 100},
                              {17, 1152},
                              {51, 1536},
                              {4, 8192},
                              {3, 8200},
                              {2, 10001}}) {
      cases.push_back(norm_case(kind, rows, cols));
    }
  }
  cases.push_back(modulated_case());
  cases.push_back(exact_case());
  cases.push_back(norm_case(NormKind::layer, 768, 1152, true));
  cases.push_back(norm_case(NormKind::rms, 968, 2048, true));
  cases.push_back(norm_case(NormKind::ada_rms, 50, 1024, true));
  return cases;
}

}  // namespace flashrt
