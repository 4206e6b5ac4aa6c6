// The memory plan on random programs: live tensors never overlap, and sharing memory never changes a result.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "ops/fusion.h"
#include "tape/reference.h"
#include "tests/tape/random_program.h"

namespace flashrt {
namespace {

using Outputs = std::vector<std::vector<std::byte>>;

Outputs run_planned(RandomProgram& random, bool poison = true) {
  ReferenceExecutor executor(random.program, poison);
  for (const auto& input : random.recorder.inputs) input.fill(executor.input(input.name));
  executor.run();
  Outputs outputs;
  for (const auto& [name, id] : random.program.outputs) {
    const auto bytes = executor.output(name);
    outputs.emplace_back(bytes.begin(), bytes.end());
  }
  return outputs;
}

// Every root in memory of its own: what a plan must be indistinguishable from.
Outputs run_unshared(RandomProgram& random) {
  const Program& program = random.program;
  std::map<int, std::vector<float>> memory;
  std::vector<void*> data(program.tensors.size());
  for (size_t id = 0; id < data.size(); ++id) {
    const int root = program.root(int(id));
    const TensorInfo& base = program.info(root);
    if (!memory.contains(root)) {
      memory[root] = base.kind == Kind::weight     ? weight_values(*base.weight)
                     : base.kind == Kind::constant ? *base.values
                                                   : std::vector<float>(size_t(base.shape.size()), NAN);
    }
    const bool as_f32 = base.kind == Kind::weight || base.kind == Kind::constant;
    const int64_t offset = program.root_byte_offset(int(id));
    data[id] = reinterpret_cast<std::byte*>(memory[root].data()) +
               (as_f32 ? offset / int64_t(size_of(base.dtype)) * 4 : offset);
  }
  for (const auto& input : random.recorder.inputs) {
    input.fill({static_cast<std::byte*>(data[size_t(input.id)]), program.info(input.id).bytes()});
  }
  std::vector<float> scratch(1 << 12);
  for (const Line& line : program.lines) {
    EXPECT_LE(scratch_floats(program, line), scratch.size());
    run_reference_line(program, line, data, scratch.data());
  }
  Outputs outputs;
  for (const auto& [name, id] : program.outputs) {
    const auto* bytes = static_cast<const std::byte*>(data[size_t(id)]);
    outputs.emplace_back(bytes, bytes + program.info(id).bytes());
  }
  return outputs;
}

void expect_no_overlap(const Program& program, const Plan& plan) {
  struct Root {
    int id, first, last;
  };
  std::map<int, Root> roots;
  const auto touch = [&](int id, int line) {
    const int root = program.root(id);
    if (plan.offset[size_t(root)] < 0) return;
    auto [at, fresh] = roots.try_emplace(root, Root{root, line, line});
    at->second.last = std::max(at->second.last, line);
  };
  const int end = int(program.lines.size());
  for (const auto& [name, id] : program.inputs) touch(id, -1), touch(id, end);
  for (int i = 0; i < end; ++i) {
    for (int id : program.lines[size_t(i)].in) {
      if (id >= 0) touch(id, i);
    }
    for (int id : program.lines[size_t(i)].out) touch(id, i);
  }
  for (const auto& [name, id] : program.outputs) touch(id, end);
  for (const auto& [a, x] : roots) {
    const int64_t begin = plan.offset[size_t(a)], bytes = int64_t(program.info(a).bytes());
    EXPECT_EQ(begin % 256, 0);
    EXPECT_LE(begin + bytes, plan.arena_bytes);
    for (const auto& [b, y] : roots) {
      if (a >= b || x.last < y.first || y.last < x.first) continue;
      const int64_t other = plan.offset[size_t(b)];
      EXPECT_TRUE(begin + bytes <= other || other + int64_t(program.info(b).bytes()) <= begin)
          << "%" << a << " and %" << b << " are live together";
    }
  }
}

TEST(Plan, LiveTensorsNeverOverlap) {
  int64_t arena = 0, unshared = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomProgram random(DType::f32, seed, 5 + int(seed % 40));
    const Plan plan = plan_memory(random.program);
    expect_no_overlap(random.program, plan);
    arena += plan.arena_bytes, unshared += plan.unshared_bytes;
  }
  EXPECT_LT(arena, unshared * 3 / 4) << "sharing saves memory";
}

TEST(Plan, SharedMemoryGivesTheSameBits) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    const DType type = seed % 3 == 0 ? DType::bf16 : DType::f32;
    RandomProgram shared(type, seed, 5 + int(seed % 40)), apart(type, seed, 5 + int(seed % 40));
    EXPECT_EQ(run_planned(shared), run_unshared(apart));
  }
}

TEST(Plan, PassesKeepTheResult) {
  int fused = 0, dropped = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(seed);
    RandomProgram plain(DType::f32, seed, 30), passed(DType::f32, seed, 30);
    fold(passed.program);
    dropped += drop_dead(passed.program);
    fused += fuse(passed.program, kPatterns, [](const Program&, const Line&) { return true; });
    const Plan plan = plan_memory(passed.program);
    expect_no_overlap(passed.program, plan);
    const Outputs want = run_unshared(plain), got = run_planned(passed);
    ASSERT_EQ(want.size(), got.size());
    for (size_t o = 0; o < want.size(); ++o) {
      for (size_t i = 0; i < want[o].size() / 4; ++i) {
        const float a = load_float(want[o].data(), DType::f32, i),
                    b = load_float(got[o].data(), DType::f32, i);
        ASSERT_NEAR(a, b, 1e-4f * std::max(1.f, std::abs(a))) << "output " << o << " element " << i;
      }
    }
  }
  EXPECT_GT(fused, 500);
  EXPECT_GT(dropped, 500);
}

// A value is overwritten in place only by the line that reads it last.
TEST(Plan, HandsOverOnlyWhatDies) {
  Program program;
  const Tensor x = program.input("x", {2, 4}, DType::f32);
  const Tensor a = silu(x), b = residual(a, silu(a)), c = residual(a, b);
  program.output("y", residual(c, x));
  plan_memory(program);
  EXPECT_NE(program.root(b.id), program.root(a.id)) << "a is read again after b is written";
  EXPECT_EQ(program.root(c.id), program.root(a.id)) << "a dies where c is written";
}

}  // namespace
}  // namespace flashrt
