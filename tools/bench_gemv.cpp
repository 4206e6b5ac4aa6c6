// Matrix-vector products in a chain of dependent launches, weights cold: GB/s of each implementation at the
// shapes of language models. Build and use: see tune/notes_decode.md.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/threads.h"
#include "cases/cases.h"
#include "cuda/executor.h"
#include "cuda/linear_gemv.h"
#include "ops/linear.h"

using namespace flashrt;

namespace {

struct Product {
  const char* name;
  int64_t n, k;
  Activation activation = Activation::none;
  bool norm = false, residual = false, f32 = false;
};

constexpr Product kProducts[] = {
    {"qkv", 12288, 4096, Activation::none, true},
    {"out", 4096, 4096, Activation::none, false, true},
    {"gate-up", 22016, 4096, Activation::swiglu, true},
    {"down", 4096, 11008, Activation::none, false, true},
    {"head", 32000, 4096, Activation::none, true, false, true},
    {"qkv", 6144, 4096, Activation::none, true},
    {"gate-up", 24576, 4096, Activation::swiglu, true},
    {"down", 4096, 12288, Activation::none, false, true},
    {"head", 151936, 4096, Activation::none, true, false, true},
    {"qkv", 3072, 2048, Activation::none, true},
    {"out", 2048, 2048, Activation::none, false, true},
    {"gate-up", 16384, 2048, Activation::swiglu, true},
    {"down", 2048, 8192, Activation::none, false, true},
    {"head", 128256, 2048, Activation::none, true, false, true},
};

std::vector<std::byte> g_weights;

// µs of one launch, the median over runs of a graph of `count` of them; 0 when the implementation does not
// fit.
double time_chain(const Product& s, int64_t m, const char* implementation, const cuda::Device& device,
                  cuda::WeightStore& store) {
  Program p(DType::bf16);
  const int64_t bytes = s.n * s.k * 2, width = is_pair(s.activation) ? s.n / 2 : s.n;
  const int count = int(std::clamp<int64_t>(1'500'000'000 / bytes, 1, 60));
  const Tensor x = p.input("x", {m, s.k}, DType::bf16), r = p.input("r", {m, width}, DType::bf16);
  const Tensor scale = p.constant("scale", {1, s.k}, std::vector<float>(size_t(s.k), 0.f));
  Tensor last;
  for (int i = 0; i < count; ++i) {
    const Tensor w = p.weight({.name = fmt::format("w{}", i),
                               .shape = {s.n, s.k},
                               .parts = {{g_weights.data() + 256 * i, DType::bf16, s.n, s.k}}});
    last = p.temp({m, width}, s.f32 ? DType::f32 : DType::bf16);
    const LinearAttrs attrs{.norm = {.kind = s.norm ? NormKind::rms : NormKind::none},
                            .activation = s.activation};
    p.record(kLinearOp,
             {x, w, Tensor{}, s.residual ? r : Tensor{}, Tensor{}, s.norm ? scale : Tensor{}, Tensor{},
              Tensor{}, Tensor{}, Tensor{}, Tensor{}},
             {last}, attrs, At::current());
  }
  p.output("y", last);
  if (cuda::choose(p, p.lines[0], device, {{"linear", implementation}}) == nullptr) return 0;
  cuda::Executor executor(p, device, store, {.force = {{"linear", implementation}}});
  const auto in = executor.input("x");
  fill_normal(in, DType::bf16, 1, 1, 0);
  std::vector<float> us;
  for (int i = 0; i < 12; ++i) {
    if (const cudaError_t code = executor.run(); code != cudaSuccess) {
      fmt::print("{}: {}\n", implementation, cudaGetErrorString(code));
      std::exit(1);
    }
    us.push_back(1e3f * executor.stage_ms()[0] / float(count));
  }
  std::ranges::sort(us);
  return us[us.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t m = argc > 1 ? std::atoll(argv[1]) : 1;
  const cuda::Probe found = cuda::probe();
  if (!found.device) return fmt::print("{}\n", found.why_not), 77;
  g_weights.resize(size_t(151936) * 4096 * 2 + 256 * 64);
  fill_normal(g_weights, DType::bf16, 7, 0.02f, 0);
  fmt::print("{} row(s); % of 4.6 TB/s, weights cold, chain of dependent launches\n", m);
  for (const Product& s : kProducts) {
    fmt::print("{:8} {:6} x {:5}", s.name, s.n, s.k);
    cuda::WeightStore store;
    for (int i = 2; i < argc;
         ++i) {  // implementation[:steps of a load,KB of a block,steps of a warp,MB ahead]
      cuda::GemvTactic tactic;
      char name[32] = {};
      std::sscanf(argv[i], "%31[^:]:%d,%d,%d,%d", name, &tactic.chunk_steps, &tactic.shared,
                  &tactic.warp_steps, &tactic.ahead);
      if (tactic.shared < 1024) tactic.shared *= 1024;
      if (tactic.ahead < 1024) tactic.ahead <<= 20;
      cuda::default_gemv_tactic() = tactic;
      const double us = time_chain(s, m, name, *found.device, store);
      fmt::print("  {} {:6.2f}us {:4.1f}%", argv[i], us, us > 0 ? double(s.n * s.k * 2) / us / 4.6e4 : 0);
    }
    fmt::print("\n");
    std::fflush(stdout);
  }
}
