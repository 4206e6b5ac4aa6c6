// Linear layers: every fused form on ragged shapes, and the shapes of the models for benchmarks.
#include "cases/linear.h"

#include <algorithm>
#include <cmath>

#include "cases/all.h"

namespace flashrt {

std::string LinearSpec::name() const {
  static constexpr const char* norms[] = {"", " layer_norm", " rms_norm", " ada_rms_norm"};
  static constexpr const char* activations[] = {"", " gelu", " silu", " geglu", " swiglu"};
  std::string text = fmt::format("{}x{}x{}{}", m, n, k, norms[int(norm)]);
  if (x_cols > 0) text += fmt::format(" in {} columns", x_cols);
  if (bias) text += " bias";
  text += activations[int(activation)];
  if (period > 0)
    text += fmt::format(" {}residual{}", gate ? "gated " : "",
                        period < m ? fmt::format(" of {} rows", period) : "");
  if (table) text += " table";
  if (rope.head_dim > 0)
    text += fmt::format(" rope {}/{} of {} at {}", rope.heads, rope.kv_heads, rope.head_dim, position);
  if (folded) text += " folded";
  if (exact) text += " exact";
  if (x_type != DType::u8) text += fmt::format(" from {}", name_of(x_type));
  if (y_type != DType::u8) text += fmt::format(" to {}", name_of(y_type));
  return text;
}

LinearOperandsOf linear_operands(CaseRecorder& c, const LinearSpec& s) {
  Program& p = c.p;
  LinearOperandsOf o;
  const int64_t width = is_pair(s.activation) ? s.n / 2 : s.n, x_cols = s.x_cols > 0 ? s.x_cols : s.k;
  const float scale = 1.f / std::sqrt(float(s.k));  // results of about 1
  o.x = c.normal_of(s.x_type == DType::u8 ? p.compute() : s.x_type, {s.m, x_cols});
  if (s.folded) {
    std::vector<float> values(size_t(s.n * s.k));
    fill_normal(std::as_writable_bytes(std::span(values)), DType::f32, 7, scale, 0);
    o.w = p.constant("folded", {s.n, s.k}, values);
    p.tensors[size_t(o.w.id)].dtype = p.compute();
    for (float& v : values) {  // a folded constant holds values of its type
      if (p.compute() == DType::bf16) v = bf16_to_f32(f32_to_bf16(v));
      if (p.compute() == DType::f16) v = f16_to_f32(f32_to_f16(v));
    }
    p.tensors[size_t(o.w.id)].values = std::make_shared<const std::vector<float>>(std::move(values));
  } else if (s.exact) {
    const auto exact = p.exact();
    o.w = c.matrix(s.n, s.k, scale);
  } else {
    o.w = c.matrix(s.n, s.k, scale);
  }
  if (s.bias) o.bias = c.vector(s.n, 0.5f);
  if (s.period > 0) o.residual = s.table ? c.matrix(s.period, width, 1) : c.normal({s.period, width});
  if (s.gate) o.gate = c.vector(width, 1);
  if (s.norm != NormKind::none) o.norm_scale = c.vector(x_cols, 0.2f, s.norm == NormKind::layer ? 1 : 0);
  if (s.norm == NormKind::layer || s.norm == NormKind::ada_rms) o.norm_shift = c.vector(x_cols);
  if (s.rope.head_dim > 0) {
    const int64_t kv_cols = s.rope.kv_heads * s.rope.head_dim;
    o.table = rope_table(p, s.capacity, s.rope.head_dim, 1e4);
    if (s.position >= 0) o.position = c.integer(s.position);
    o.k_cache = p.buffer("k", {s.capacity, kv_cols}, p.compute());
    o.v_cache = p.buffer("v", {s.capacity, kv_cols}, p.compute());
  }
  return o;
}

std::vector<Tensor> record_linear(Program& p, const LinearSpec& s, const LinearOperandsOf& o) {
  const DType y_type = s.y_type == DType::u8 ? p.compute() : s.y_type;
  std::vector<Tensor> results;
  if (s.rope.head_dim > 0) {
    results = {p.temp({s.m, s.rope.heads * s.rope.head_dim}, y_type), p.version(o.k_cache),
               p.version(o.v_cache)};
  } else {
    results = {p.temp({s.m, is_pair(s.activation) ? s.n / 2 : s.n}, y_type)};
  }
  const LinearAttrs attrs{.norm = {.kind = s.norm}, .activation = s.activation, .rope = s.rope};
  p.record(kLinearOp,
           {o.x, o.w, o.bias, o.residual, o.gate, o.norm_scale, o.norm_shift, o.table, o.position, o.k_cache,
            o.v_cache, o.statistics},
           results, attrs, At::current());
  return results;
}

std::vector<LinearSpec> linear_specs() {
  using enum Activation;
  constexpr NormKind layer = NormKind::layer, rms = NormKind::rms, ada_rms = NormKind::ada_rms;
  return {
      // the product alone
      {.m = 1, .n = 1, .k = 1},
      {.m = 1, .n = 7, .k = 5},
      {.m = 3, .n = 65, .k = 72},
      {.m = 8, .n = 96, .k = 1024},
      {.m = 10, .n = 32, .k = 264},
      {.m = 16, .n = 100, .k = 588},
      {.m = 17, .n = 33, .k = 8},
      {.m = 51, .n = 130, .k = 200},
      {.m = 65, .n = 129, .k = 588},
      {.m = 277, .n = 320, .k = 136},
      {.m = 130, .n = 1152, .k = 72, .bias = true},
      {.m = 1, .n = 512, .k = 4304},
      {.m = 9, .n = 24, .k = 16384},
      {.m = 70, .n = 24, .k = 16384},
      // padding columns, folded weights, mixed types
      {.m = 19, .n = 40, .k = 588, .x_cols = 592, .bias = true},
      {.m = 5, .n = 40, .k = 27, .x_cols = 32},
      {.m = 66, .n = 72, .k = 75, .x_cols = 80},
      {.m = 20, .n = 48, .k = 96, .folded = true},
      {.m = 6, .n = 12, .k = 20, .folded = true},
      {.m = 50, .n = 64, .k = 32, .bias = true, .x_type = DType::f32},
      {.m = 10, .n = 64, .k = 14, .x_type = DType::f32},
      {.m = 50, .n = 32, .k = 128, .bias = true, .y_type = DType::f32},
      {.m = 10, .n = 7, .k = 128, .bias = true, .y_type = DType::f32},
      {.m = 3, .n = 24, .k = 40, .bias = true, .y_type = DType::f32, .exact = true},
      {.m = 21, .n = 24, .k = 43, .x_cols = 48, .y_type = DType::f32, .exact = true},
      // bias, activations, pairs
      {.m = 4, .n = 72, .k = 64, .bias = true},
      {.m = 33, .n = 76, .k = 64, .bias = true, .activation = gelu},
      {.m = 2, .n = 40, .k = 96, .activation = silu},
      {.m = 67, .n = 136, .k = 72, .bias = true, .activation = silu},
      {.m = 1, .n = 96, .k = 256, .activation = geglu},
      {.m = 10, .n = 50, .k = 72, .activation = geglu},
      {.m = 51, .n = 272, .k = 104, .activation = geglu},
      {.m = 140, .n = 304, .k = 64, .bias = true, .activation = swiglu},
      {.m = 18, .n = 26, .k = 40, .bias = true, .activation = swiglu},
      {.m = 300, .n = 2048, .k = 64, .activation = geglu},
      // residuals
      {.m = 1, .n = 64, .k = 128, .period = 1},
      {.m = 10, .n = 72, .k = 128, .bias = true, .period = 10},
      {.m = 51, .n = 130, .k = 64, .period = 51, .gate = true},
      {.m = 16, .n = 33, .k = 24, .period = 16, .gate = true},
      {.m = 66, .n = 72, .k = 588, .x_cols = 592, .bias = true, .period = 22},
      {.m = 12, .n = 40, .k = 75, .x_cols = 80, .bias = true, .period = 4, .table = true},
      {.m = 40, .n = 64, .k = 64, .bias = true, .activation = gelu, .period = 40, .gate = true},
      {.m = 34, .n = 64, .k = 32, .activation = geglu, .period = 17},
      // the norm before, the rotation behind
      {.m = 10, .n = 64, .k = 256, .norm = ada_rms},
      {.m = 51, .n = 96, .k = 128, .norm = rms},
      {.m = 7, .n = 40, .k = 72, .bias = true, .norm = layer},
      {.m = 10, .n = 128, .k = 256, .activation = geglu, .norm = ada_rms},
      {.m = 10, .n = 2560, .k = 64, .rope = {8, 1, 256}, .position = 22, .capacity = 32},
      {.m = 5, .n = 160, .k = 48, .bias = true, .rope = {6, 2, 16}, .position = 3, .capacity = 9},
      {.m = 50, .n = 2560, .k = 128, .norm = ada_rms, .rope = {8, 1, 256}, .position = 70, .capacity = 120},
      {.m = 20, .n = 1024, .k = 64, .norm = rms, .rope = {4, 2, 128}, .capacity = 20},
      // one token and a few: rows that end within a step, several chunks of columns, uneven shares of a block
      {.m = 1, .n = 1000, .k = 4104, .bias = true, .activation = swiglu, .norm = rms},
      {.m = 1, .n = 6, .k = 8, .norm = rms},
      {.m = 1, .n = 70, .k = 11008, .period = 1},
      {.m = 1, .n = 4098, .k = 768, .y_type = DType::f32},
      {.m = 2, .n = 5120, .k = 1280, .bias = true, .activation = silu},
      {.m = 3, .n = 514, .k = 2056, .y_type = DType::f32},
      {.m = 4, .n = 300, .k = 776, .period = 4, .gate = true},
      {.m = 4, .n = 1808, .k = 3000, .activation = geglu, .norm = rms},
  };
}

namespace {

Case case_of(const LinearSpec& spec, bool bench) {
  return {.op = "linear",
          .name = spec.name(),
          .record = [=](CaseRecorder& c) { record_linear(c.p, spec, linear_operands(c, spec)); },
          // Matrix units take normalised rows rounded to the half type, the definition as they are.
          .tolerance = spec.norm == NormKind::none ? 1. : 3.,
          .tolerance_f32 = 16 + 2 * std::sqrt(double(spec.k)),  // two orders of summation
          .bench = bench};
}

// Σ and Σ² of 64 columns each of every row of input `x`, as the linear before would have left them.
Tensor sums_of(CaseRecorder& c, Tensor x) {
  const auto fill_x = std::ranges::find(c.inputs, x.id, &CaseRecorder::Input::id)->fill;
  const Shape shape = x.shape();
  const DType dtype = x.dtype();
  return c.filled(
      {(shape.cols + kStatisticsColumns - 1) / kStatisticsColumns, 2 * shape.rows}, [=](std::span<float> to) {
        std::vector<std::byte> values(size_t(shape.size()) * size_of(dtype));
        fill_x(values);
        std::ranges::fill(to, 0.f);
        for (int64_t i = 0; i < shape.size(); ++i) {
          const float v = load_float(values.data(), dtype, size_t(i));
          float* pair = to.data() + 2 * (i % shape.cols / kStatisticsColumns * shape.rows + i / shape.cols);
          pair[0] += v, pair[1] += v * v;
        }
      });
}

// A norm that the matrix has taken in, x with its sums.
Case carried_case(LinearSpec spec, float mean) {
  return {.op = "linear",
          .name = fmt::format("{} carried, mean {}", spec.name(), mean),
          .record =
              [=](CaseRecorder& c) {
                LinearSpec plain = spec;
                plain.norm = NormKind::none;
                LinearOperandsOf o = linear_operands(c, plain);
                o.x = c.normal({spec.m, spec.k}, 1, mean);
                Weight w = *c.p.info(o.w.id).weight;
                Weight::ColumnFactor factor{.values = std::vector<float>(size_t(spec.k), 0.75f),
                                            .centred = spec.norm == NormKind::layer};
                for (auto& part : w.parts) part.factor = std::make_shared<const Weight::ColumnFactor>(factor);
                o.w = c.p.weight(std::move(w));
                o.statistics = sums_of(c, o.x);
                record_linear(c.p, spec, o);
              },
          .tolerance = mean == 0 ? 3. : 6.};  // x itself is rounded to mean / 256
}

// The linear before a carried norm.
Case sums_case(const LinearSpec& spec) {
  return {.op = "linear",
          .name = spec.name() + " sums",
          .record =
              [=](CaseRecorder& c) {
                record_linear(c.p, spec, linear_operands(c, spec));
                const int64_t slots = (spec.n + kStatisticsColumns - 1) / kStatisticsColumns;
                c.p.lines[0].out.push_back(c.p.temp({slots, 2 * spec.m}, DType::f32).id);
              },
          // Sums of what the device rounds otherwise than the definition: a bf16 ulp of some of 64 values.
          .tolerance_f32 = 1e5};
}

// The products of the action expert, the prefix, the vision tower and of language models.
void add_bench_cases(std::vector<Case>& cases) {
  struct Grid {
    std::vector<int64_t> m;
    std::vector<std::pair<int64_t, int64_t>> nk;
  };
  const Grid grids[] = {
      {{1, 10, 50, 51}, {{2560, 1024}, {1024, 2048}, {8192, 1024}, {1024, 4096}}},
      {{266, 522, 712, 968}, {{2560, 2048}, {2048, 2048}, {32768, 2048}, {2048, 16384}}},
      {{256, 512, 768}, {{3456, 1152}, {1152, 1152}, {4304, 1152}, {1152, 4304}}},
      {{1, 2, 4, 7, 8, 16}, {{6144, 4096}, {4096, 4096}, {24576, 4096}, {4096, 12288}, {151936, 4096}}},
      {{1, 2, 4, 7, 8, 16},
       {{34816, 5120}, {5120, 17408}, {16480, 5120}, {14336, 5120}, {5120, 6144}, {248320, 5120}}},
  };
  for (const Grid& grid : grids) {
    for (auto [n, k] : grid.nk) {
      for (int64_t m : grid.m) cases.push_back(case_of({.m = m, .n = n, .k = k}, true));
    }
  }
  for (int64_t side : {512, 1024, 2048, 4096, 8192})
    cases.push_back(case_of({.m = side, .n = side, .k = side}, true));
  using enum Activation;
  for (int64_t m : {10, 50, 51}) {
    cases.push_back(
        case_of({.m = m, .n = 8192, .k = 1024, .activation = geglu, .norm = NormKind::ada_rms}, true));
    cases.push_back(case_of({.m = m, .n = 1024, .k = 4096, .period = m, .gate = true}, true));
    cases.push_back(case_of({.m = m,
                             .n = 2560,
                             .k = 1024,
                             .norm = NormKind::ada_rms,
                             .rope = {8, 1, 256},
                             .position = 968,
                             .capacity = 968 + m},
                            true));
  }
  for (int64_t m : {522, 712, 968}) {
    cases.push_back(case_of({.m = m, .n = 32768, .k = 2048, .activation = geglu}, true));
    cases.push_back(case_of({.m = m, .n = 2048, .k = 16384, .period = m}, true));
  }
  cases.push_back(case_of({.m = 768, .n = 4304, .k = 1152, .bias = true, .activation = gelu}, true));
  cases.push_back(case_of({.m = 768, .n = 1152, .k = 4304, .bias = true, .period = 768}, true));
}

}  // namespace

std::vector<Case> linear_cases() {
  std::vector<Case> cases;
  for (const LinearSpec& spec : linear_specs()) cases.push_back(case_of(spec, false));
  for (float mean : {0.f, 4.f}) {
    for (const LinearSpec& spec :
         {LinearSpec{.m = 70, .n = 72, .k = 72, .norm = NormKind::rms},
          LinearSpec{.m = 130,
          .n = 200,
          .k = 200,
          .bias = true,
          .activation = Activation::gelu,
          .norm = NormKind::layer},
          LinearSpec{.m = 77, .n = 304, .k = 128, .activation = Activation::geglu, .norm = NormKind::rms},
          LinearSpec{.m = 266, .n = 1160, .k = 592, .bias = true, .norm = NormKind::layer},
          LinearSpec{
              .m = 150, .n = 2560, .k = 136, .norm = NormKind::rms, .rope = {8, 1, 256}, .capacity = 150}})
      cases.push_back(carried_case(spec, mean));
  }
  for (const LinearSpec& spec :
       {LinearSpec{.m = 70, .n = 72, .k = 64, .bias = true, .period = 70},
        LinearSpec{.m = 131, .n = 200, .k = 96},
        LinearSpec{.m = 266, .n = 1160, .k = 592, .bias = true, .period = 133, .gate = true}})
    cases.push_back(sums_case(spec));
  add_bench_cases(cases);
  return cases;
}

}  // namespace flashrt
