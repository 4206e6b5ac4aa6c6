// Checks and times the streaming linear kernels by themselves (no dependency but the CUDA toolkit):
//   nvcc -std=c++20 -O3 --expt-relaxed-constexpr -I src -gencode arch=compute_90a,code=sm_90a
//        tools/bench_stream.cu src/cuda/linear_stream.cpp -o bench_stream && ./bench_stream check rate chain
// check: every epilogue on ragged shapes against an f64 reference; rate: cold-weight streaming per shape;
// chain: ten steps of 18 layers of a 1024-wide expert (4 linears and a stand-in for attention each) as one
// graph.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cuda/kernels/flow_step_sm90.cu"
#include "cuda/kernels/linear_stream_sm90.cu"
#include "cuda/linear_stream.h"

using namespace flashrt;
using bf16 = __nv_bfloat16;

#define CHECK(call)                                                                      \
  do {                                                                                   \
    const cudaError_t e_ = (call);                                                       \
    if (e_ != cudaSuccess) {                                                             \
      std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_)); \
      std::exit(1);                                                                      \
    }                                                                                    \
  } while (0)

namespace bench {

decltype(&cuTensorMapEncodeTiled) g_encode;
int g_sms;

const std::map<std::string, const void*> kKernels = {
#define ENTRY(name) \
  { #name, reinterpret_cast < const void*>(name) }
#define ENTRIES(n)                                                               \
  ENTRY(linear_stream_plain_n##n##_r1), ENTRY(linear_stream_residual_n##n##_r1), \
      ENTRY(linear_stream_pair_n##n##_r1), ENTRY(linear_stream_qkv_n##n##_r1)
    ENTRIES(8),
    ENTRIES(16),
    ENTRIES(32),
    ENTRIES(56),
    ENTRIES(64),
    ENTRY(linear_stream_pair_n16_r2),
    ENTRY(linear_stream_pair_n32_r2),
    ENTRY(linear_stream_pair_n56_r2),
    ENTRY(linear_stream_pair_n64_r2)};

void launch_kernel(const void* f, unsigned grid, unsigned cluster, unsigned block, unsigned shared,
                   void** args, bool pdl, cudaStream_t stream) {
  cudaLaunchAttribute attribute[2];
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = attribute;
  attribute[0].id = cudaLaunchAttributeClusterDimension;
  attribute[0].val.clusterDim.x = cluster;
  attribute[0].val.clusterDim.y = attribute[0].val.clusterDim.z = 1;
  config.numAttrs = 1;
  if (pdl) {
    attribute[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute[1].val.programmaticStreamSerializationAllowed = 1;
    config.numAttrs = 2;
  }
  CHECK(cudaLaunchKernelExC(&config, f, args));
}

void launch(const StreamLaunch& l, cudaStream_t stream, bool pdl = true) {
  LinearStreamParams p = l.params;
  void* args[] = {&p};
  launch_kernel(kKernels.at(l.kernel), l.grid, l.cluster, l.block, l.shared_bytes, args, pdl, stream);
}

__device__ __host__ inline uint32_t mix(uint64_t i, uint32_t seed) {
  uint64_t z = i * 0x9E3779B97F4A7C15ull + seed * 0xD1B54A32D192ED03ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return static_cast<uint32_t>(z >> 32);
}
// N(0, 1) by Box–Muller.
__device__ float normal(uint64_t i, uint32_t seed) {
  const float u = (mix(2 * i, seed) + 1.f) * 0x1p-32f, v = mix(2 * i + 1, seed) * 0x1p-32f;
  return sqrtf(-2.f * logf(u)) * cospif(2.f * v);
}
template <class T>
__global__ void fill(T* p, size_t n, uint32_t seed, float scale) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += size_t(gridDim.x) * blockDim.x)
    p[i] = T(normal(i, seed) * scale);
}
template <class T>
T* make(size_t n, uint32_t seed, float scale) {
  T* p;
  CHECK(cudaMalloc(&p, n * sizeof(T) + 256));
  fill<<<512, 256>>>(p, n, seed, scale);
  CHECK(cudaGetLastError());
  return p;
}
template <class T>
std::vector<T> download(const T* p, size_t n) {
  std::vector<T> v(n);
  CHECK(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
  return v;
}

// The definition, naive and in f64: out[m, n] before the epilogue.
__global__ void reference(LinearStreamParams p, const bf16* w, double* out) {
  const int token = blockIdx.y;
  const bf16* x = p.x_rows + size_t(token) * p.k;
  double ss = 0;
  for (int c = 0; c < p.k; ++c) ss += double(float(x[c])) * float(x[c]);
  const double rstd = 1 / sqrt(ss / p.k + p.eps);
  for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < p.n; row += gridDim.x * blockDim.x) {
    double acc = 0;
    for (int c = 0; c < p.k; ++c) {
      double a = float(x[c]);
      if (p.norm_scale) {
        a = a * rstd * (1. + p.norm_scale[c]) + (p.norm_shift ? p.norm_shift[c] : 0.);
        a = float(bf16(float(a)));
      }
      acc += a * float(w[size_t(row) * p.k + c]);
    }
    out[size_t(token) * p.n + row] = acc + (p.bias ? p.bias[row] : 0.);
  }
}

double activate(double v, StreamActivation a) {
  if (a == StreamActivation::silu) return v / (1 + std::exp(-v));
  if (a == StreamActivation::gelu_tanh)
    return .5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + .044715 * v * v * v)));
  return v;
}

struct Tensors {
  LinearStreamParams p{};
  bf16* w;
  bf16 *y, *residual, *k_cache, *v_cache;
  size_t y_count, cache_count = 0;
  int rows_cache = 0, first = 0;
};

constexpr float kPoison = 12345.f;
template <class T>
__global__ void poison(T* p, size_t n) {
  for (size_t i = threadIdx.x + blockIdx.x * size_t(blockDim.x); i < n; i += size_t(gridDim.x) * blockDim.x)
    p[i] = T(kPoison);
}

struct Case {
  int m, n, k;
  StreamEpilogue epilogue;
  StreamActivation activation;
  int norm;  // 0 none, 1 rms, 2 adaptive, 3 adaptive with the producer's statistic
  bool bias, gate, stat;
  int q_heads, kv_heads, head_dim;
};

constexpr int kGuard = 64;  // elements behind every output that must stay untouched

Tensors make_tensors(const Case& c, uint32_t seed) {
  Tensors t;
  LinearStreamParams& p = t.p;
  p.m = c.m, p.n = c.n, p.k = c.k, p.eps = 1e-6f, p.epilogue = c.epilogue, p.activation = c.activation;
  p.x_rows = make<bf16>(size_t(c.m) * c.k, seed, 1.f);
  t.w = make<bf16>(size_t(c.n) * c.k, seed + 1, .02f);
  if (c.norm) p.norm_scale = make<float>(c.k, seed + 2, .3f);
  if (c.norm >= 2) p.norm_shift = make<float>(c.k, seed + 3, .3f);
  if (c.norm == 3) {
    std::vector<float> stat(size_t(c.m) * 16 * 2, 0.f);
    const auto x = download(p.x_rows, size_t(c.m) * c.k);
    for (int r = 0; r < c.m; ++r)
      for (int i = 0; i < c.k; ++i) {
        const float v = x[size_t(r) * c.k + i];
        float* pair = &stat[(i % 16 * size_t(c.m) + r) * 2];
        pair[0] += v, pair[1] += v * v;
      }
    float* d;
    CHECK(cudaMalloc(&d, stat.size() * 4));
    CHECK(cudaMemcpy(d, stat.data(), stat.size() * 4, cudaMemcpyHostToDevice));
    p.row_stat = d, p.row_stat_slots = 16;
  }
  if (c.bias) p.bias = make<float>(c.n, seed + 4, .5f);
  if (c.gate) p.gate = make<float>(c.n, seed + 5, 1.f);
  int width = c.n;
  if (c.epilogue == StreamEpilogue::pair) width = c.n / 2;
  if (c.epilogue == StreamEpilogue::qkv) {
    p.q_heads = c.q_heads, p.kv_heads = c.kv_heads, p.head_dim = c.head_dim;
    width = c.q_heads * c.head_dim;
    t.first = 37, t.rows_cache = 37 + c.m;
    int* position;
    CHECK(cudaMalloc(&position, 4));
    CHECK(cudaMemcpy(position, &t.first, 4, cudaMemcpyHostToDevice));
    p.position = position;
    std::vector<float2> rope(size_t(t.rows_cache) * c.head_dim / 2);
    for (int r = 0; r < t.rows_cache; ++r)
      for (int i = 0; i < c.head_dim / 2; ++i) {
        const double a = r * std::pow(1e4, -2. * i / c.head_dim);
        rope[size_t(r) * c.head_dim / 2 + i] = {float(std::cos(a)), float(std::sin(a))};
      }
    float2* d;
    CHECK(cudaMalloc(&d, rope.size() * 8));
    CHECK(cudaMemcpy(d, rope.data(), rope.size() * 8, cudaMemcpyHostToDevice));
    p.rope = d;
    t.cache_count = size_t(t.rows_cache) * c.kv_heads * c.head_dim;
    CHECK(cudaMalloc(&t.k_cache, t.cache_count * 2 + kGuard * 2));
    CHECK(cudaMalloc(&t.v_cache, t.cache_count * 2 + kGuard * 2));
    p.k_cache = t.k_cache, p.v_cache = t.v_cache;
  }
  t.y_count = size_t(c.m) * width;
  CHECK(cudaMalloc(&t.y, t.y_count * 2 + kGuard * 2));
  p.y = t.y;
  if (c.epilogue == StreamEpilogue::residual) {
    t.residual = make<bf16>(size_t(c.m) * c.n, seed + 6, 1.f);
    p.residual = t.residual;
    if (c.stat) CHECK(cudaMalloc(&p.stat_out, size_t(c.m) * (c.n / 8 + 8) * 4));
  }
  CHECK(cudaDeviceSynchronize());
  return t;
}

void free_tensors(Tensors& t) {
  const LinearStreamParams& p = t.p;
  for (const void* q :
       {(const void*)p.x_rows, (const void*)t.w, (const void*)p.norm_scale, (const void*)p.norm_shift,
        (const void*)p.row_stat, (const void*)p.bias, (const void*)p.gate, (const void*)p.position,
        (const void*)p.rope, (const void*)p.k_cache, (const void*)p.v_cache, (const void*)p.y,
        (const void*)p.residual, (const void*)p.stat_out})
    if (q) CHECK(cudaFree(const_cast<void*>(q)));
}

struct Gate {
  double num = 0, den = 0;
  bool finite = true;
  void add(double got, double want) {
    num += (got - want) * (got - want), den += want * want;
    finite = finite && std::isfinite(got);
  }
  double rel() const { return std::sqrt(num / den); }
};

// Relative L2 error of one case; −1 on unwritten, overwritten or irreproducible outputs.
double run_case(const Case& c, Tensors& t, const std::vector<double>& ref, const StreamTactic& tactic) {
  const StreamLaunch l = plan_linear_stream(t.p, t.w, tactic, g_encode);
  if (l.error) {
    std::printf("  cannot plan: %s\n", l.error);
    return -2;
  }
  std::vector<bf16> first_y, first_k, first_v;
  std::vector<float> stat;
  for (int repeat = 0; repeat < 3; ++repeat) {
    poison<<<64, 256>>>(t.y, t.y_count + kGuard);
    if (t.cache_count) {
      poison<<<64, 256>>>(t.k_cache, t.cache_count + kGuard);
      poison<<<64, 256>>>(t.v_cache, t.cache_count + kGuard);
    }
    if (t.p.stat_out) poison<<<64, 256>>>(t.p.stat_out, size_t(c.m) * stream_stat_slots(t.p) * 2);
    CHECK(cudaDeviceSynchronize());
    launch(l, nullptr, true);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    auto y = download(t.y, t.y_count + kGuard);
    std::vector<bf16> k, v;
    if (t.cache_count)
      k = download(t.k_cache, t.cache_count + kGuard), v = download(t.v_cache, t.cache_count + kGuard);
    if (repeat == 0) {
      first_y = y, first_k = k, first_v = v;
    } else if (std::memcmp(y.data(), first_y.data(), y.size() * 2) ||
               (k.size() && (std::memcmp(k.data(), first_k.data(), k.size() * 2) ||
                             std::memcmp(v.data(), first_v.data(), v.size() * 2)))) {
      std::printf("  not bit-identical on repeat\n");
      return -1;
    }
  }
  for (int i = 0; i < kGuard; ++i) {
    if (float(first_y[t.y_count + i]) != float(bf16(kPoison))) return -1;
    if (t.cache_count && float(first_k[t.cache_count + i]) != float(bf16(kPoison))) return -1;
    if (t.cache_count && float(first_v[t.cache_count + i]) != float(bf16(kPoison))) return -1;
  }
  const LinearStreamParams& p = t.p;
  const auto bias_free = [&](int r, int col) { return ref[size_t(r) * c.n + col]; };
  Gate g;
  if (c.epilogue == StreamEpilogue::plain) {
    for (int r = 0; r < c.m; ++r)
      for (int j = 0; j < c.n; ++j)
        g.add(float(first_y[size_t(r) * c.n + j]), activate(bias_free(r, j), c.activation));
  } else if (c.epilogue == StreamEpilogue::residual) {
    const auto res = download(t.residual, size_t(c.m) * c.n);
    const auto gate = p.gate ? download(p.gate, c.n) : std::vector<float>(c.n, 1.f);
    for (int r = 0; r < c.m; ++r)
      for (int j = 0; j < c.n; ++j)
        g.add(float(first_y[size_t(r) * c.n + j]),
              float(res[size_t(r) * c.n + j]) + gate[j] * activate(bias_free(r, j), c.activation));
    if (p.stat_out) {
      const int slots = stream_stat_slots(t.p);
      const auto stat_got = download(p.stat_out, size_t(c.m) * slots * 2);
      for (int r = 0; r < c.m; ++r)
        for (int s = 0; s < slots; ++s) {
          double sum = 0, squares = 0;
          for (int j = 64 * s; j < std::min(c.n, 64 * s + 64); ++j) {
            const double y = float(first_y[size_t(r) * c.n + j]);
            sum += y, squares += y * y;
          }
          const float* got = &stat_got[(size_t(s) * c.m + r) * 2];
          if (!(std::fabs(got[0] - sum) < 1e-4 * std::sqrt(64 * squares)) ||
              !(std::fabs(got[1] - squares) < 1e-4 * squares)) {
            std::printf("  sums of row %d, slot %d: %g %g, expected %g %g\n", r, s, got[0], got[1], sum,
                        squares);
            return -1;
          }
        }
    }
  } else if (c.epilogue == StreamEpilogue::pair) {
    for (int r = 0; r < c.m; ++r)
      for (int j = 0; j < c.n / 2; ++j)
        g.add(float(first_y[size_t(r) * (c.n / 2) + j]),
              activate(bias_free(r, j), c.activation) * bias_free(r, c.n / 2 + j));
  } else {
    const int d = c.head_dim, kvw = c.kv_heads * d;
    for (int i = 0; i < t.first * kvw; ++i)
      if (float(first_k[i]) != float(bf16(kPoison)) || float(first_v[i]) != float(bf16(kPoison))) return -1;
    for (int r = 0; r < c.m; ++r)
      for (int h = 0; h < c.q_heads + 2 * c.kv_heads; ++h)
        for (int i = 0; i < d / 2; ++i) {
          const double a = bias_free(r, h * d + i), b = bias_free(r, h * d + i + d / 2);
          const double angle = (t.first + r) * std::pow(1e4, -2. * i / d);
          const bool v = h >= c.q_heads + c.kv_heads;
          const double cs = v ? 1 : std::cos(angle), sn = v ? 0 : std::sin(angle);
          const bf16* row = h < c.q_heads ? &first_y[(size_t(r) * c.q_heads + h) * d]
                            : v ? &first_v[size_t(t.first + r) * kvw + (h - c.q_heads - c.kv_heads) * d]
                                : &first_k[size_t(t.first + r) * kvw + (h - c.q_heads) * d];
          g.add(float(row[i]), a * cs - b * sn);
          g.add(float(row[i + d / 2]), b * cs + a * sn);
        }
  }
  return g.finite ? g.rel() : -1;
}

std::vector<StreamTactic> tactics_for(const LinearStreamParams& p) {
  std::vector<StreamTactic> list = {choose_stream_tactic(p, g_sms)};
  for (int splits : {1, 2, 4, 8})
    for (int groups : {1, 2}) {
      StreamTactic t = list[0];
      t.row_groups = groups, t.splits = splits;
      if (groups == 2 && t.rows == 8) t.rows = 16;
      const int tiles = stream_tiles(p, groups);
      for (int clusters : {tiles, (tiles + 2) / 3, (tiles + 6) / 7})
        for (int stages : {2, 5}) {
          t.clusters = clusters, t.stages = stages, t.trigger = stages == 2 ? 0 : 3;
          if (tiles > 0 && !plan_linear_stream(p, p.x_rows, t, g_encode).error) list.push_back(t);
        }
    }
  return list;
}

int check(bool quick) {
  using E = StreamEpilogue;
  using A = StreamActivation;
  std::vector<Case> cases = {
      {10, 2560, 1024, E::qkv, A::none, 2, 0, 0, 0, 8, 1, 256},
      {50, 2560, 1024, E::qkv, A::none, 3, 0, 0, 0, 8, 1, 256},
      {10, 1024, 2048, E::residual, A::none, 0, 0, 1, 1},
      {10, 8192, 1024, E::pair, A::gelu_tanh, 3, 0, 0, 0},
      {51, 8192, 1024, E::pair, A::gelu_tanh, 1, 0, 0, 0},
      {10, 1024, 4096, E::residual, A::none, 0, 0, 1, 1},
      {50, 1024, 4096, E::residual, A::none, 0, 0, 1, 1},
      {1, 768, 512, E::qkv, A::none, 1, 1, 0, 0, 4, 1, 128},
      {17, 384, 264, E::qkv, A::none, 0, 1, 0, 0, 2, 2, 64},
      {16, 152, 1160, E::plain, A::silu, 1, 1, 0, 0},
      {2, 328, 72, E::plain, A::gelu_tanh, 0, 1, 0, 0},
      {7, 1000, 136, E::plain, A::none, 2, 0, 0, 0},
      {64, 264, 2056, E::plain, A::none, 1, 0, 0, 0},
      {33, 176, 520, E::pair, A::silu, 1, 1, 0, 0},
      {5, 1040, 4096, E::pair, A::silu, 0, 0, 0, 0},
      {1, 4096, 11008, E::residual, A::none, 0, 0, 0, 1},
      {3, 72, 8, E::residual, A::none, 0, 1, 1, 1},
      {51, 200, 1032, E::residual, A::silu, 2, 1, 1, 1},
  };
  if (quick)
    cases = {{10, 384, 512, E::qkv, A::none, 2, 0, 0, 0, 1, 1, 128},
             {51, 256, 512, E::pair, A::gelu_tanh, 3, 0, 0, 0},
             {10, 192, 1096, E::residual, A::none, 0, 0, 1, 1},
             {3, 136, 264, E::plain, A::silu, 1, 1, 0, 0}};
  int failures = 0, runs = 0;
  double worst = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    Tensors t = make_tensors(c, 100 * i + 7);
    double* out;
    CHECK(cudaMalloc(&out, size_t(c.m) * c.n * 8));
    reference<<<dim3((c.n + 127) / 128, c.m), 128>>>(t.p, t.w, out);
    CHECK(cudaDeviceSynchronize());
    const auto ref = download(out, size_t(c.m) * c.n);
    CHECK(cudaFree(out));
    double case_worst = 0;
    int tried = 0;
    for (const StreamTactic& tactic : tactics_for(t.p)) {
      if (quick && tried >= 6) break;
      const double e = run_case(c, t, ref, tactic);
      ++runs, ++tried;
      if (e < 0 || !(e <= 4e-3)) {
        ++failures;
        if (failures < 25)
          std::printf(
              "FAIL case %zu m=%d n=%d k=%d epilogue=%d norm=%d: n%d r%d splits=%d clusters=%d stages=%d: "
              "%g\n",
              i, c.m, c.n, c.k, int(c.epilogue), c.norm, tactic.rows, tactic.row_groups, tactic.splits,
              tactic.clusters, tactic.stages, e);
      } else {
        case_worst = std::max(case_worst, e);
      }
    }
    std::printf("case %2zu m=%2d n=%5d k=%5d epilogue=%d norm=%d: %3d tactics, worst rel-L2 %.2e\n", i, c.m,
                c.n, c.k, int(c.epilogue), c.norm, tried, case_worst);
    worst = std::max(worst, case_worst);
    free_tensors(t);
  }
  std::printf("check: %d runs, %d failures, worst rel-L2 %.2e (gate 4e-3)\n", runs, failures, worst);
  return failures;
}

#include "bench_stream_chain.h"
#include "bench_stream_flow.h"

}  // namespace bench
using namespace bench;

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  cudaDeviceProp prop;
  CHECK(cudaGetDeviceProperties(&prop, 0));
  g_sms = prop.multiProcessorCount;
  cudaDriverEntryPointQueryResult found;
  void* entry = nullptr;
  CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
  g_encode = reinterpret_cast<decltype(g_encode)>(entry);
  for (const auto& [name, f] : kKernels) {
    CHECK(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024));
    CHECK(cudaFuncSetAttribute(f, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  }
  std::printf("%s, %d SMs\n", prop.name, g_sms);
  int failures = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string what = argv[i];
    if (what == "check") failures += check(false);
    if (what == "quick") failures += check(true);
    if (what == "flow") failures += flow();
    if (what == "rate") rate();
    if (what == "mma") mma_rate();
    if (what == "chain") failures += chain();
  }
  return failures != 0;
}
