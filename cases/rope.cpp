// Rotations, alone and with the split and the append: odd half widths, one head and many, a position on the
// device.
#include "ops/rope.h"

#include "cases/all.h"

namespace flashrt {

namespace {

Case rope_case(int64_t rows, int64_t heads, int64_t head_dim, int position) {
  return {.op = "rope",
          .name = fmt::format("{} rows, {} heads of {}, position {}", rows, heads, head_dim, position),
          .record =
              [=](CaseRecorder& c) {
                const Tensor x = c.normal({rows, heads * head_dim});
                const Tensor table = rope_table(c.p, rows + std::max(position, 0), head_dim, 1e4);
                rope(x, table, position >= 0 ? c.integer(position) : Tensor{}, head_dim);
              },
          .tolerance_f32 = 4};
}

Case append_case(int64_t rows, int heads, int kv_heads, int head_dim, int position, int64_t capacity) {
  return {.op = "rope_append",
          .name = fmt::format("{} rows, {} over {} heads of {}, position {} of {}", rows, heads, kv_heads,
                              head_dim, position, capacity),
          .record =
              [=](CaseRecorder& c) {
                Program& p = c.p;
                const int64_t q_cols = heads * head_dim, kv_cols = kv_heads * head_dim;
                const Tensor qkv = c.normal({rows, q_cols + 2 * kv_cols});
                const Tensor table = rope_table(p, capacity, head_dim, 1e4);
                const Tensor at = position >= 0 ? c.integer(position) : Tensor{};
                const Tensor k = p.buffer("k", {capacity, kv_cols}, p.compute());
                const Tensor v = p.buffer("v", {capacity, kv_cols}, p.compute());
                const Tensor q = p.temp({rows, std::max<int64_t>(q_cols, 1)}, p.compute());
                p.record(kRopeAppendOp, {qkv, table, at, k, v}, {q, p.version(k), p.version(v)},
                         RopeAttrs{heads, kv_heads, head_dim}, At::current());
              },
          .tolerance_f32 = 4};
}

}  // namespace

std::vector<Case> rope_cases() {
  return {
      rope_case(1, 1, 2, -1),
      rope_case(10, 8, 256, 0),
      rope_case(50, 1, 256, 968),
      rope_case(2, 16, 72, 3),
      rope_case(7, 3, 10, 5),
      rope_case(33, 16, 80, -1),
      append_case(10, 8, 1, 256, 522, 532),
      append_case(50, 8, 1, 256, 968, 1018),
      append_case(3, 2, 2, 16, -1, 3),
      append_case(1, 4, 2, 6, 8, 9),
      append_case(17, 16, 8, 128, 5, 40),
  };
}

}  // namespace flashrt
