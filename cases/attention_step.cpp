// One token's attention: widths, groups, norms of the heads, windows, caches that are empty, ragged or full.
#include "ops/attention_step.h"

#include "cases/all.h"

namespace flashrt {

namespace {

struct Spec {
  int heads = 1, kv_heads = 1, head_dim = 64, position = 0, capacity = 1;
  bool norm = false;
  int window = 0;
  bool bench = false;
};

std::string name_of_case(const Spec& s) {
  std::string text =
      fmt::format("{} keys of {}, {}/{} of {}", s.position, s.capacity, s.heads, s.kv_heads, s.head_dim);
  if (s.norm) text += ", normed heads";
  if (s.window > 0) text += fmt::format(", window {}", s.window);
  return text;
}

void record(CaseRecorder& c, const Spec& s) {
  Program& p = c.p;
  const int64_t d = s.head_dim, kv_cols = s.kv_heads * d;
  const Tensor qkv = c.normal({1, s.heads * d + 2 * kv_cols});
  const Tensor table = rope_table(p, s.capacity, d, 1e4), position = c.integer(s.position);
  const Tensor k = p.buffer("k", {s.capacity, kv_cols}, p.compute());
  const Tensor v = p.buffer("v", {s.capacity, kv_cols}, p.compute());
  const Tensor q_norm = s.norm ? c.vector(d) : Tensor{}, k_norm = s.norm ? c.vector(d) : Tensor{};
  const AttentionStepAttrs attrs{
      .heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim, .window = s.window, .eps = 1e-6f};
  p.record(kAttentionStepOp, {qkv, table, position, k, v, q_norm, k_norm},
           {p.temp({1, s.heads * d}, p.compute()), p.version(k), p.version(v)}, attrs, At::current());
}

// Rotated keys are rounded once; everything else is in f32.
Case case_of(const Spec& s) {
  return {.op = "attention_step",
          .name = name_of_case(s),
          .record = [=](CaseRecorder& c) { record(c, s); },
          .tolerance = 2,
          .tolerance_f32 = 64,
          .bench = s.bench};
}

}  // namespace

std::vector<Case> attention_step_cases() {
  const Spec specs[] = {
      {.heads = 1, .kv_heads = 1, .head_dim = 64, .position = 0, .capacity = 1},
      {.heads = 4, .kv_heads = 4, .head_dim = 128, .position = 0, .capacity = 40},
      {.heads = 4, .kv_heads = 2, .head_dim = 64, .position = 31, .capacity = 40},
      {.heads = 2, .kv_heads = 2, .head_dim = 128, .position = 32, .capacity = 33},
      {.heads = 6, .kv_heads = 2, .head_dim = 128, .position = 33, .capacity = 200, .norm = true},
      {.heads = 8, .kv_heads = 1, .head_dim = 256, .position = 301, .capacity = 302},
      {.heads = 7, .kv_heads = 1, .head_dim = 64, .position = 129, .capacity = 500},
      {.heads = 32, .kv_heads = 32, .head_dim = 128, .position = 1023, .capacity = 1024},
      {.heads = 32, .kv_heads = 8, .head_dim = 128, .position = 4095, .capacity = 4200, .norm = true},
      {.heads = 32, .kv_heads = 4, .head_dim = 128, .position = 700, .capacity = 1200, .norm = true},
      {.heads = 5, .kv_heads = 5, .head_dim = 256, .position = 95, .capacity = 96, .norm = true},
      {.heads = 4, .kv_heads = 2, .head_dim = 128, .position = 200, .capacity = 300, .window = 64},
      {.heads = 4, .kv_heads = 1, .head_dim = 64, .position = 20, .capacity = 64, .window = 7},
      {.heads = 4, .kv_heads = 4, .head_dim = 64, .position = 9, .capacity = 64, .window = 1},
      {.heads = 4, .kv_heads = 4, .head_dim = 64, .position = 9, .capacity = 64, .window = 50},
  };
  std::vector<Case> cases;
  for (const Spec& s : specs) cases.push_back(case_of(s));
  for (Spec s :
       {Spec{32, 32, 128, 1023, 1024}, Spec{32, 8, 128, 4095, 4096}, Spec{32, 8, 128, 32767, 32768}}) {
    s.bench = true;
    cases.push_back(case_of(s));
  }
  return cases;
}

}  // namespace flashrt
