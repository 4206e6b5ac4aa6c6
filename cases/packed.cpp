// Products with packed weights, and their unpacking.
#include <cmath>

#include "cases/all.h"
#include "ops/linear.h"
#include "ops/unpack.h"

namespace flashrt {

namespace {

struct Spec {
  quant::Format format;
  int64_t m, n, k;
  bool bias = false;
  Activation activation = Activation::none;
  bool residual = false, norm = false;
  std::vector<int64_t> parts = {};  // rows of the stacked matrices; empty: one
};

std::string name_of(const Spec& s) {
  static constexpr const char* activations[] = {"", " gelu", " silu", " geglu", " swiglu"};
  return fmt::format("{} {}x{}x{}{}{}{}{}{}", quant::name_of(s.format), s.m, s.n, s.k,
                     s.norm ? " rms_norm" : "", s.bias ? " bias" : "", activations[int(s.activation)],
                     s.residual ? " residual" : "", s.parts.empty() ? "" : " of parts");
}

// Random rows, encoded; every part has its own scales.
Tensor packed_weight(Program& p, const Spec& s) {
  Weight weight{.name = "packed", .shape = {s.n, s.k}};
  const std::vector<int64_t> parts = s.parts.empty() ? std::vector<int64_t>{s.n} : s.parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    std::vector<float> values(size_t(parts[i] * s.k));
    fill_normal(std::as_writable_bytes(std::span(values)), DType::f32, 90 + i,
                float(i + 1) / std::sqrt(float(s.k)), 0);
    const auto packed = std::make_shared<const quant::Packed>(quant::encode(
        s.format, parts[i], s.k,
        [&](int64_t row, float* out) { std::copy_n(values.begin() + row * s.k, s.k, out); }, "case"));
    weight.parts.push_back({.data = packed->codes,
                            .dtype = DType::u8,
                            .rows = parts[i],
                            .stride = packed->code_stride,
                            .packed = packed});
  }
  return p.weight(std::move(weight));
}

void record(CaseRecorder& c, const Spec& s) {
  const int64_t width = is_pair(s.activation) ? s.n / 2 : s.n;
  std::vector<Tensor> in(kLinearOperands);
  in[kX] = c.normal({s.m, s.k});
  in[kW] = packed_weight(c.p, s);
  if (s.bias) in[kBias] = c.vector(s.n, 0.5f);
  if (s.residual) in[kResidual] = c.normal({s.m, width});
  if (s.norm) in[kNormScale] = c.vector(s.k, 0.2f);
  const LinearAttrs attrs{.norm = {.kind = s.norm ? NormKind::rms : NormKind::none},
                          .activation = s.activation};
  c.p.record(kLinearOp, in, {c.p.temp({s.m, width}, c.p.compute())}, attrs, At::current());
}

}  // namespace

std::vector<Case> packed_cases() {
  using enum Activation;
  std::vector<Case> cases;
  for (const quant::Format f :
       {quant::Format::fp8, quant::Format::int8, quant::Format::int4, quant::Format::nvfp4}) {
    for (const Spec& s : std::initializer_list<Spec>{
             {f, 1, 16, 128},
             {f, 1, 2, 16},
             {f, 3, 38, 272},
             {f, 8, 96, 1024},
             {f, 5, 130, 208, true},
             {f, 2, 64, 4304, true, silu, true},
             {f, 1, 2304, 256, false, none, true},
             {f, 1, 4096, 1152, false, swiglu, false, true},
             {f, 4, 52, 512, true, geglu, false, true},
             {f, 7, 72, 640, true, none, true, true},
             {f, 1, 96, 384, false, none, false, false, {64, 16, 16}},
             {f, 6, 44, 11008, false, swiglu, false, true, {22, 22}},
         }) {
      cases.push_back({.op = "linear",
                       .name = name_of(s),
                       .record = [=](CaseRecorder& c) { record(c, s); },
                       // Rows times 1 + scale are rounded before the product, the definition rounds nothing.
                       .tolerance = s.norm ? 3. : 1.,
                       .tolerance_f32 = 16 + 2 * std::sqrt(double(s.k))});
    }
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{2, 16}, {16, 128}, {58, 400}, {48, 1040}}) {
      const Spec s{f, 1, n, k};
      cases.push_back({.op = "unpack",
                       .name = fmt::format("{} {}x{}", quant::name_of(f), n, k),
                       .record = [=](CaseRecorder& c) { unpack(packed_weight(c.p, s)); },
                       .tolerance = 0,
                       .tolerance_f32 = 0});
    }
  }
  return cases;
}

}  // namespace flashrt
