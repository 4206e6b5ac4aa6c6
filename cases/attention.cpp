// Attention: head widths, grouped heads, segments, masks, lengths on the device, packed operands.
#include "ops/attention.h"

#include "cases/all.h"

namespace flashrt {

namespace {

struct Spec {
  int64_t rows = 1, capacity = 1;  // per segment
  AttentionAttrs attrs;
  int length = -1;      // the operand's value; −1: absent
  bool packed = false;  // q | k | v in one operand; capacity = rows
  bool bench = false;
};

std::string name_of_case(const Spec& s) {
  const AttentionAttrs& a = s.attrs;
  std::string text = fmt::format("{} rows, {} keys, {}/{} of {}", s.rows, a.keys + std::max(s.length, 0),
                                 a.heads, a.kv_heads, a.head_dim);
  if (a.keys + std::max(s.length, 0) != s.capacity) text += fmt::format(" of {}", s.capacity);
  if (a.segments > 1) text += fmt::format(", {} segments", a.segments);
  if (a.causal) text += ", causal";
  if (a.window > 0) text += fmt::format(", window {}", a.window);
  if (a.lead_rows > 0) text += fmt::format(", {} lead rows", a.lead_rows);
  if (a.scale != 0) text += fmt::format(", scale {}", a.scale);
  if (s.length >= 0) text += ", length on the device";
  return text + (s.packed ? ", packed" : "");
}

// Keys and values that do not exist are NaN: nothing of them may reach a result.
Tensor cache_of(CaseRecorder& c, const Spec& s, int64_t cols, int64_t keys) {
  const Tensor t = c.normal({s.attrs.segments * s.capacity, cols});
  auto fill = c.inputs.back().fill;
  const DType dtype = t.dtype();
  c.inputs.back().fill = [=](std::span<std::byte> to) {
    fill(to);
    const size_t row = size_t(cols) * size_of(dtype);
    for (int64_t r = 0; r < s.attrs.segments * s.capacity; ++r) {
      if (r % s.capacity >= keys) std::memset(to.data() + size_t(r) * row, 0xff, row);
    }
  };
  return t;
}

void record(CaseRecorder& c, const Spec& s) {
  AttentionAttrs a = s.attrs;
  const int64_t q_cols = a.heads * a.head_dim, kv_cols = a.kv_heads * a.head_dim, rows = a.segments * s.rows;
  const int64_t keys = a.keys + std::max(s.length, 0);
  const Tensor length = s.length >= 0 ? c.integer(s.length) : Tensor{};
  if (s.packed) {
    a.k_col = int32_t(q_cols), a.v_col = int32_t(q_cols + kv_cols);
    const Tensor qkv = c.normal({rows, q_cols + 2 * kv_cols});
    c.p.record(kAttentionOp, {qkv, qkv, qkv, length}, {c.p.temp({rows, q_cols}, c.p.compute())}, a,
               At::current());
    return;
  }
  const Tensor q = c.normal({rows, q_cols});
  const Tensor k = cache_of(c, s, kv_cols, keys), v = cache_of(c, s, kv_cols, keys);
  attention(q, k, v, length, a);
}

// Weights of the softmax are rounded to the half type before they multiply values.
Case case_of(const Spec& s) {
  return {.op = "attention",
          .name = name_of_case(s),
          .record = [=](CaseRecorder& c) { record(c, s); },
          .tolerance = 3,
          .tolerance_f32 = 64,
          .bench = s.bench};
}

void add_bench_cases(std::vector<Case>& cases) {
  const auto add = [&](Spec s) {
    s.bench = true;
    cases.push_back(case_of(s));
  };
  for (int views : {1, 2, 3}) {
    add({.rows = 256,
         .capacity = 256,
         .attrs = {.heads = 16, .kv_heads = 16, .head_dim = 72, .segments = views, .keys = 256},
         .packed = true});
  }
  for (int n : {266, 522, 712, 968}) {
    add({.rows = n, .capacity = n + 50, .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256}, .length = n});
  }
  for (int rows : {10, 50}) {
    for (int prefix : {266, 522, 712, 968}) {
      add({.rows = rows,
           .capacity = prefix + rows,
           .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256, .keys = rows},
           .length = prefix});
    }
  }
  add({.rows = 51,
       .capacity = 867,
       .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256, .keys = 51, .lead_rows = 1},
       .length = 816});
  add({.rows = 1,
       .capacity = 1024,
       .attrs = {.heads = 32, .kv_heads = 32, .head_dim = 128, .keys = 1},
       .length = 1023});
  add({.rows = 1,
       .capacity = 4096,
       .attrs = {.heads = 32, .kv_heads = 8, .head_dim = 128, .keys = 1},
       .length = 4095});
  add({.rows = 2048,
       .capacity = 2048,
       .attrs = {.heads = 32, .kv_heads = 8, .head_dim = 128, .keys = 2048, .causal = 1}});
}

}  // namespace

std::vector<Case> attention_cases() {
  std::vector<Case> cases;
  const Spec specs[] = {
      {.rows = 1, .capacity = 1, .attrs = {.heads = 1, .kv_heads = 1, .head_dim = 8, .keys = 1}},
      {.rows = 1, .capacity = 1, .attrs = {.heads = 8, .kv_heads = 8, .head_dim = 64, .keys = 1}},
      {.rows = 17, .capacity = 63, .attrs = {.heads = 16, .kv_heads = 4, .head_dim = 64, .keys = 63}},
      {.rows = 64, .capacity = 129, .attrs = {.heads = 12, .kv_heads = 4, .head_dim = 80, .keys = 129}},
      {.rows = 127, .capacity = 128, .attrs = {.heads = 2, .kv_heads = 2, .head_dim = 96, .keys = 128}},
      {.rows = 65, .capacity = 511, .attrs = {.heads = 8, .kv_heads = 2, .head_dim = 128, .keys = 511}},
      {.rows = 33,
       .capacity = 40,
       .attrs = {.heads = 3, .kv_heads = 1, .head_dim = 48, .keys = 40, .scale = 0.3f}},
      // any width
      {.rows = 9, .capacity = 20, .attrs = {.heads = 2, .kv_heads = 1, .head_dim = 12, .keys = 20}},
      {.rows = 9, .capacity = 20, .attrs = {.heads = 2, .kv_heads = 2, .head_dim = 24, .keys = 20}},
      {.rows = 5, .capacity = 70, .attrs = {.heads = 2, .kv_heads = 1, .head_dim = 200, .keys = 70}},
      // segments, packed or not
      {.rows = 16,
       .capacity = 16,
       .attrs = {.heads = 4, .kv_heads = 4, .head_dim = 72, .segments = 3, .keys = 16},
       .packed = true},
      {.rows = 256,
       .capacity = 256,
       .attrs = {.heads = 2, .kv_heads = 2, .head_dim = 72, .segments = 2, .keys = 256},
       .packed = true},
      {.rows = 5,
       .capacity = 9,
       .attrs = {.heads = 4, .kv_heads = 2, .head_dim = 16, .segments = 2, .keys = 7}},
      // a length on the device, stale keys behind it
      {.rows = 10,
       .capacity = 300,
       .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256, .keys = 10},
       .length = 276},
      {.rows = 50,
       .capacity = 200,
       .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256, .keys = 50},
       .length = 120},
      {.rows = 40, .capacity = 100, .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256}, .length = 67},
      {.rows = 6,
       .capacity = 20,
       .attrs = {.heads = 4, .kv_heads = 2, .head_dim = 64, .keys = 6},
       .length = 0},
      {.rows = 3,
       .capacity = 20,
       .attrs = {.heads = 2, .kv_heads = 1, .head_dim = 64},
       .length = 0},  // no key: zeros
      {.rows = 3,
       .capacity = 16,
       .attrs = {.heads = 2, .kv_heads = 1, .head_dim = 64, .keys = 3},
       .length = 13},
      // lead rows and causal masks
      {.rows = 51,
       .capacity = 130,
       .attrs = {.heads = 8, .kv_heads = 1, .head_dim = 256, .keys = 51, .lead_rows = 1},
       .length = 70},
      {.rows = 9,
       .capacity = 24,
       .attrs = {.heads = 2, .kv_heads = 2, .head_dim = 32, .keys = 9, .lead_rows = 4},
       .length = 11},
      {.rows = 65,
       .capacity = 65,
       .attrs = {.heads = 4, .kv_heads = 2, .head_dim = 128, .keys = 65, .causal = 1}},
      {.rows = 20,
       .capacity = 90,
       .attrs = {.heads = 4, .kv_heads = 4, .head_dim = 64, .keys = 20, .causal = 1},
       .length = 57},
      {.rows = 12,
       .capacity = 16,
       .attrs =
           {.heads = 2, .kv_heads = 1, .head_dim = 64, .keys = 7, .causal = 1}},  // five rows see nothing
      // windows: shorter than a tile, longer than some rows' keys, behind a long cache
      {.rows = 65,
       .capacity = 65,
       .attrs = {.heads = 4, .kv_heads = 2, .head_dim = 128, .keys = 65, .causal = 1, .window = 7}},
      {.rows = 20,
       .capacity = 300,
       .attrs = {.heads = 6, .kv_heads = 2, .head_dim = 64, .keys = 20, .causal = 1, .window = 90},
       .length = 257},
      {.rows = 130,
       .capacity = 130,
       .attrs = {.heads = 2, .kv_heads = 1, .head_dim = 256, .keys = 130, .causal = 1, .window = 100}},
      {.rows = 1,
       .capacity = 100,
       .attrs = {.heads = 2, .kv_heads = 1, .head_dim = 12, .keys = 1, .causal = 1, .window = 1},
       .length = 40},
  };
  for (const Spec& s : specs) cases.push_back(case_of(s));
  add_bench_cases(cases);
  return cases;
}

}  // namespace flashrt
