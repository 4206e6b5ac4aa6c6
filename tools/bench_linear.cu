// Checks and times every instance of the wgmma linear kernel; stands alone so that it can run on a bare GPU
// machine.
//   nvcc -fatbin -std=c++20 -O3 --expt-relaxed-constexpr -I src -gencode arch=compute_90a,code=sm_90a \
//        -o linear.fatbin src/cuda/kernels/linear_wgmma_sm90.cu
//   nvcc -std=c++20 -O2 -arch=sm_90 -I src -o bench_linear tools/bench_linear.cu src/cuda/linear_wgmma.cpp
//   -lcublasLt
//   ./bench_linear linear.fatbin check | small | time [m [name [seconds]]]
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cuda/kernels/common/linear_instances.h"
#include "cuda/linear_wgmma.h"

using namespace flashrt;
using bf16 = __nv_bfloat16;

#define CHECK(call)                                                                                  \
  do {                                                                                               \
    const auto status_ = (call);                                                                     \
    if (static_cast<int>(status_) != 0) {                                                            \
      std::printf("%s:%d: %s failed: %d %s\n", __FILE__, __LINE__, #call, static_cast<int>(status_), \
                  cudaGetErrorString(cudaGetLastError()));                                           \
      std::exit(1);                                                                                  \
    }                                                                                                \
  } while (0)

namespace {

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// --- data
// -----------------------------------------------------------------------------------------------------------

__device__ float normal(uint64_t i, uint64_t seed) {
  auto mix = [](uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  };
  const uint64_t h = mix(i + seed * 0x632be59bd9b4e019ull);
  const float u = ((h >> 40) + 1) * 0x1p-24f, v = (h & 0xffffff) * 0x1p-24f;
  return sqrtf(-2.f * logf(u)) * cospif(2.f * v);
}
template <class T>
__global__ void fill(T* p, int64_t n, float scale, float mean, uint64_t seed) {
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll)
    p[i] = T(mean + scale * normal(i, seed));
}
__global__ void fill_rotary(float2* p, int positions, int half) {
  for (int i = blockIdx.x * 256 + threadIdx.x; i < positions * half; i += gridDim.x * 256) {
    const double angle = (i / half) * pow(10000.0, -double(i % half) / half);
    p[i] = make_float2(cos(angle), sin(angle));
  }
}

__global__ void fill_stats(float* p, int64_t pairs) {  // of 64 values N(0, 1)
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < pairs; i += gridDim.x * 256ll) {
    p[2 * i] = 8 * normal(i, 11);
    p[2 * i + 1] = 64 + 8 * normal(i, 12);
  }
}

template <class T>
struct Buffer {
  T* data = nullptr;
  size_t count = 0;
  explicit Buffer(size_t n = 0) : count(n) {
    if (n) CHECK(cudaMalloc(&data, n * sizeof(T)));
  }
  ~Buffer() { cudaFree(data); }
  Buffer(const Buffer&) = delete;
  void normal(float scale, float mean, uint64_t seed) { fill<<<1024, 256>>>(data, count, scale, mean, seed); }
  void poison() { CHECK(cudaMemset(data, 0xff, count * sizeof(T))); }
};

// --- reference: the same contract in f64, one thread per output pair
// ------------------------------------------------

struct Reference {
  LinearParams p;
  const bf16 *x, *w;
  int64_t x_stride, w_stride;
  LinearRows rows;
  int m, n, k;
};

__device__ double reference_activation(LinearActivation a, double x) {
  if (a == LinearActivation::gelu_tanh)
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  return a == LinearActivation::silu ? x / (1 + exp(-x)) : x;
}
__device__ double reference_value(const Reference& r, int token, int feature) {
  double sum = 0, s1 = 0, s2 = 0;
  for (int i = 0; i < r.k; ++i)
    sum += double(__bfloat162float(r.x[token * r.x_stride + i])) *
           __bfloat162float(r.w[feature * r.w_stride + i]);
  const LinearParams& p = r.p;
  if (p.row_stats) {
    for (int i = 0; i < p.row_stat_slots; ++i) {
      s1 += p.row_stats[2 * (int64_t(i) * r.m + token)];
      s2 += p.row_stats[2 * (int64_t(i) * r.m + token) + 1];
    }
    const double mean = p.centred ? s1 * p.inverse_width : 0;
    const double rstd = 1 / sqrt(s2 * p.inverse_width - mean * mean + p.epsilon);
    sum *= rstd;
  }
  return sum + (p.bias ? p.bias[feature] : 0);
}
// Adds the squared error and squared reference of every step-th output row to total[0], total[1]; total[2]
// counts NaN.
__global__ void compare(Reference r, const bf16* residual, int step, double* total) {
  const LinearParams& p = r.p;
  const int rows = (r.m + step - 1) / step;
  const int64_t pairs = int64_t(rows) * r.n / 2, i = blockIdx.x * 256ll + threadIdx.x;
  double error = 0, norm = 0, bad = 0;
  if (i < pairs) {
    const int token = int(i / (r.n / 2)) * step, j = int(i % (r.n / 2));
    auto check = [&](double want, const void* at, int64_t offset) {
      const double got = __bfloat162float(static_cast<const bf16*>(at)[offset]);
      if (!(fabs(got) < 1e30))
        bad += 1;
      else
        error += (got - want) * (got - want);
      norm += want * want;
    };
    if (r.rows == LinearRows::plain) {
      for (int f = 2 * j; f < 2 * j + 2; ++f) {
        double v = reference_activation(p.activation, reference_value(r, token, f));
        if (residual)
          v = double(__bfloat162float(residual[(token % p.residual_period) * p.residual_stride + f])) +
              (p.gate ? p.gate[f] : 1) * v;
        check(v, p.out, token * p.out_stride + f);
      }
    } else if (r.rows == LinearRows::pair) {
      const double gate = reference_activation(p.activation, reference_value(r, token, j));
      check(gate * reference_value(r, token, j + r.n / 2), p.out, token * p.out_stride + j);
    } else {
      const int half = p.head_dim / 2, head = j / half, d = j % half, position = p.position ? *p.position : 0;
      double a = reference_value(r, token, head * p.head_dim + d),
             b = reference_value(r, token, head * p.head_dim + d + half);
      const int kv = head - p.query_heads;
      if (p.rotary && kv < p.kv_heads) {
        const double angle = (position + token) * pow(10000.0, -double(d) / half), c = cos(angle),
                     s = sin(angle);
        const double turned = a * c - b * s;
        b = b * c + a * s;
        a = turned;
      }
      const void* at = kv < 0 ? p.out : kv < p.kv_heads ? p.keys : p.values;
      const int64_t row = kv < 0 ? token * p.out_stride + head * p.head_dim
                                 : (position + token) * p.kv_stride + (kv % p.kv_heads) * p.head_dim;
      check(a, at, row + d);
      check(b, at, row + d + half);
    }
  }
  atomicAdd(total, error);
  atomicAdd(total + 1, norm);
  if (bad) atomicAdd(total + 2, bad);
}
// Elements outside rows [first, last) × columns [0, n) that are no longer poisoned.
__global__ void count_touched(const uint16_t* p, int64_t count, int64_t stride, int first, int last, int n,
                              int* touched) {
  for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    const int64_t row = i / stride;
    if ((row < first || row >= last || i % stride >= n) && p[i] != 0xffff) atomicAdd(touched, 1);
  }
}
__global__ void compare_stats(const bf16* y, int64_t stride, const float* stats, int m, int n, int slots,
                              int* bad) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= m * slots) return;
  double s1 = 0, s2 = 0, a = 0;
  for (int c = i % slots * 64; c < min(n, i % slots * 64 + 64); ++c) {
    const double v = __bfloat162float(y[(i / slots) * stride + c]);
    s1 += v;
    a += fabs(v);
    s2 += v * v;
  }
  const float* have = stats + 2 * (int64_t(i % slots) * m + i / slots);
  if (!(fabs(have[0] - s1) < 1e-5 * a + 1e-6) || !(fabs(have[1] - s2) < 1e-5 * s2 + 1e-6)) atomicAdd(bad, 1);
}

// --- launching
// ------------------------------------------------------------------------------------------------------

cudaLibrary_t library;

struct Instance {
  LinearRows rows;
  int tile_rows, tokens;
};
std::vector<Instance> instances() {
#define INSTANCE(map, rows, tokens) {LinearRows::map, rows, tokens},
  return {FLASHRT_LINEAR_INSTANCES(INSTANCE)};
#undef INSTANCE
}

const void* function_of(const LinearLaunch& l) {
  static std::map<std::string, const void*> known;
  auto& f = known[l.kernel];
  if (!f) {
    cudaKernel_t kernel;
    CHECK(cudaLibraryGetKernel(&kernel, library, l.kernel.c_str()));
    f = reinterpret_cast<const void*>(kernel);
    CHECK(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448));
  }
  return f;
}
cudaLaunchConfig_t config_of(const LinearLaunch& l, cudaLaunchAttribute (&attributes)[2], cudaStream_t stream,
                             bool pdl) {
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {unsigned(l.cluster), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = pdl;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(l.grid);
  config.blockDim = dim3(l.threads);
  config.dynamicSmemBytes = l.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return config;
}
int resident_clusters(const LinearProblem& problem, const LinearParams& e, const LinearTactic& tactic) {
  static std::map<std::pair<std::string, int>, int> known;
  const LinearLaunch l = plan_linear(problem, e, tactic, 1 << 20);
  auto [at, fresh] = known.try_emplace({l.kernel, 2 * tactic.cluster() + tactic.resident});
  if (fresh) {
    cudaLaunchAttribute attributes[2];
    const auto config = config_of(l, attributes, nullptr, false);
    CHECK(cudaOccupancyMaxActiveClusters(&at->second, function_of(l), &config));
  }
  return at->second;
}
void launch(const LinearLaunch& l, cudaStream_t stream) {
  cudaLaunchAttribute attributes[2];
  const auto config = config_of(l, attributes, stream, true);
  void* arguments[] = {const_cast<LinearParams*>(&l.params)};
  CHECK(cudaLaunchKernelExC(&config, function_of(l), arguments));
}

// --- check
// ----------------------------------------------------------------------------------------------------------

struct Verdict {
  double relative = 1;
  int64_t nan = 0;
  int touched = 0, stats = 0;
  bool pass() const { return relative <= 4e-3 && nan == 0 && touched == 0 && stats == 0; }
};

Verdict verify(const LinearProblem& a, const LinearParams& p, const bf16* residual, int step) {
  static Buffer<double> total(3);
  CHECK(cudaMemset(total.data, 0, 24));
  const Reference r{p,
                    static_cast<const bf16*>(a.x),
                    static_cast<const bf16*>(a.w),
                    a.x_stride,
                    a.w_stride,
                    a.rows,
                    a.m,
                    a.n,
                    a.k};
  const int64_t pairs = int64_t(ceil_div(a.m, step)) * a.n / 2;
  compare<<<unsigned((pairs + 255) / 256), 256>>>(r, residual, step, total.data);
  double host[3];
  CHECK(cudaMemcpy(host, total.data, 24, cudaMemcpyDeviceToHost));
  return {std::sqrt(host[0] / host[1]), int64_t(host[2])};
}

struct Case {
  int m, n, k;
  int flags;  // 1 bias, 2 activation gelu, 4 activation silu, 8 residual, 16 gate, 32 statistics out, 64 RMS
              // in, 128 LN in, 256 in place, 512 two blocks per SM
  int cluster_rows, cluster_tokens, split, max_clusters;
  int head_dim = 0, heads = 0, kv_heads = 0;
};

Verdict run_case(const Instance& in, const Case& c) {
  const int pad = 16, position = 37;
  Buffer<bf16> x(size_t(c.m) * (c.k + pad)), w(size_t(c.n) * (c.k + pad));
  const bool pair = in.rows == LinearRows::pair, heads = in.rows == LinearRows::heads;
  const int columns = pair ? c.n / 2 : heads ? c.heads * c.head_dim : c.n;
  const int64_t stride = columns + 24, kv_stride = heads ? c.kv_heads * c.head_dim + 8 : 8;
  const int slots = ceil_div(c.k, 64), out_slots = ceil_div(c.n, 64), period = c.m / 3 + 1;
  Buffer<bf16> y(size_t(c.m + 40) * stride), residual(size_t(c.m) * stride),
      keys(size_t(c.m + 99) * kv_stride), values(keys.count);
  Buffer<float> bias(c.n), gate(c.n), stats(size_t(c.m) * slots * 2), out_stats(size_t(c.m) * out_slots * 2);
  Buffer<float2> rotary(heads ? size_t(c.m + position) * c.head_dim / 2 : 1);
  Buffer<int> where(1), counts(2);
  x.normal(1.f, 0.1f, 1);
  w.normal(0.05f, 0.f, 2);
  bias.normal(1.f, 0.f, 3);
  gate.normal(1.f, 0.f, 4);
  residual.normal(1.f, 0.f, 6);
  stats.normal(0.3f, 4.f, 7);
  y.poison(), keys.poison(), values.poison(), out_stats.poison();
  CHECK(cudaMemcpy(where.data, &position, 4, cudaMemcpyHostToDevice));
  CHECK(cudaMemset(counts.data, 0, 8));
  LinearParams p{};
  p.out = y.data;
  p.out_stride = stride;
  if (c.flags & 1) p.bias = bias.data;
  if (c.flags & 2) p.activation = LinearActivation::gelu_tanh;
  if (c.flags & 4) p.activation = LinearActivation::silu;
  const bool in_place = c.flags & 256;
  if (c.flags & 8) {
    p.residual = in_place ? y.data : residual.data;
    p.residual_stride = stride;
    p.residual_period = in_place ? c.m : period;
    if (in_place)
      CHECK(cudaMemcpy2D(y.data, stride * 2, residual.data, stride * 2, columns * 2, c.m,
                         cudaMemcpyDeviceToDevice));
  }
  if (c.flags & 16) p.gate = gate.data;
  if (c.flags & 32) p.out_stats = out_stats.data, p.out_stat_slots = out_slots;
  if (c.flags & (64 | 128)) {
    p.row_stats = stats.data;
    p.row_stat_slots = slots;
    p.inverse_width = 1.f / c.k;
    p.epsilon = 1e-6f;
    if (c.flags & 128) p.centred = 1;
  }
  if (heads) {
    fill_rotary<<<256, 256>>>(rotary.data, c.m + position, c.head_dim / 2);
    p.position = where.data;
    p.rotary = reinterpret_cast<float*>(rotary.data);
    p.keys = keys.data, p.values = values.data, p.kv_stride = kv_stride;
    p.head_dim = c.head_dim, p.query_heads = c.heads, p.kv_heads = c.kv_heads;
  }
  const LinearProblem a{c.m, c.n, c.k, x.data, w.data, c.k + pad, c.k + pad, in.rows};
  LinearTactic tactic{in.tile_rows, in.tokens, c.cluster_rows, c.cluster_tokens, c.split};
  if (c.flags & 512) tactic.resident = linear_tile(in.tile_rows, in.tokens).residents();
  if (!linear_refusal(a, p, tactic).empty()) return {0};
  launch(plan_linear(a, p, tactic, c.max_clusters), nullptr);
  CHECK(cudaDeviceSynchronize());
  Verdict v = verify(a, p, p.residual ? residual.data : nullptr, 1);
  count_touched<<<256, 256>>>(reinterpret_cast<uint16_t*>(y.data), y.count, stride, 0, c.m, columns,
                              counts.data);
  if (heads)
    for (auto* cache : {&keys, &values})
      count_touched<<<256, 256>>>(reinterpret_cast<uint16_t*>(cache->data), cache->count, kv_stride, position,
                                  position + c.m, c.kv_heads * c.head_dim, counts.data);
  if (p.out_stats)
    compare_stats<<<ceil_div(c.m * out_slots, 256), 256>>>(y.data, stride, out_stats.data, c.m, c.n,
                                                           out_slots, counts.data + 1);
  int host[2];
  CHECK(cudaMemcpy(host, counts.data, 8, cudaMemcpyDeviceToHost));
  v.touched = host[0], v.stats = host[1];
  return v;
}

std::vector<Case> cases_for(LinearRows rows, bool small) {
  if (rows == LinearRows::heads) {
    if (small) return {{150, 768, 144, 1, 2, 1, 1, 1, 128, 4, 1}};
    return {{266, 2560, 592, 0, 1, 1, 1, 132, 256, 8, 1},  {301, 1536, 592, 1 | 64, 2, 1, 1, 3, 128, 8, 2},
            {133, 512, 592, 64, 1, 1, 1, 132, 256, 0, 1},  {523, 1152, 144, 1 | 128, 2, 2, 1, 2, 64, 10, 4},
            {266, 2560, 592, 64, 1, 1, 3, 132, 256, 8, 1}, {266, 2560, 592, 0, 4, 1, 2, 132, 256, 8, 1},
            {133, 3072, 64, 1, 1, 2, 1, 5, 256, 8, 2}};
  }
  if (rows == LinearRows::pair) {
    if (small) return {{150, 656, 144, 2, 2, 1, 1, 1}};
    return {{266, 1312, 592, 2, 1, 1, 1, 132},    {523, 1312, 592, 4 | 1, 2, 1, 1, 3},
            {266, 2048, 144, 2 | 64, 1, 2, 1, 2}, {301, 688, 1000, 2 | 128 | 1, 2, 2, 1, 1},
            {266, 1312, 592, 2, 1, 1, 2, 132},    {77, 528, 2048, 4, 2, 1, 2, 132}};
  }
  if (small)
    return {{150, 656, 144, 1 | 8 | 16 | 32 | 128, 2, 1, 1, 1}, {150, 656, 256, 1 | 8, 1, 1, 2, 132}};
  return {{266, 4304, 592, 1 | 2, 1, 1, 1, 132},
          {523, 1160, 592, 1 | 8 | 16 | 32, 2, 1, 1, 3},
          {301, 1152, 1000, 8 | 32 | 256, 1, 2, 1, 2},
          {266, 648, 144, 1 | 4 | 128, 2, 2, 1, 1},
          {712, 656, 256, 64, 4, 1, 1, 1},
          {266, 1152, 592, 1 | 8 | 16 | 32, 1, 1, 2, 132},
          {301, 1152, 1000, 8 | 32 | 256, 2, 1, 2, 132},
          {301, 1152, 1000, 128 | 2, 1, 1, 3, 132},
          {301, 1152, 4304, 1 | 8, 2, 1, 4, 132},
          {77, 328, 2048, 64 | 8 | 32, 1, 2, 2, 132},
          {5, 8, 8, 1, 1, 1, 1, 132},
          {266, 1152, 1000, 1 | 2 | 128 | 512, 1, 1, 1, 200},
          {523, 1160, 592, 1 | 8 | 16 | 32 | 512, 1, 1, 1, 264}};
}

int check(bool small) {
  int failures = 0, runs = 0;
  double worst = 0;
  for (const Instance& in : instances()) {
    for (const Case& c : cases_for(in.rows, small)) {
      const Verdict v = run_case(in, c);
      ++runs;
      worst = std::max(worst, v.relative);
      if (v.pass()) continue;
      if (++failures <= 40)
        std::printf(
            "FAIL rows %d r%d n%d  m %d n %d k %d flags %d cluster %d/%d/%d: rel %.2e nan %lld touched %d "
            "stats %d\n",
            int(in.rows), in.tile_rows, in.tokens, c.m, c.n, c.k, c.flags, c.cluster_rows, c.cluster_tokens,
            c.split, v.relative, (long long)v.nan, v.touched, v.stats);
    }
    if (small) break;
  }
  std::printf("check: %d runs, %d failures, worst rel-L2 %.2e\n", runs, failures, worst);
  return failures;
}

// --- timing
// ---------------------------------------------------------------------------------------------------------

// Each SM's clock and the time: two of these around some work give the clock rate under it.
__global__ void read_clocks(unsigned long long (*clocks)[2]) {
  unsigned sm;
  unsigned long long now;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  clocks[sm][0] = clock64(), clocks[sm][1] = now;
}

struct Timer {
  int pause = 3000;  // µs
  double ghz = 0;    // median over SMs, of the last replay
  cudaStream_t stream;
  cudaEvent_t begin, end;
  Timer() {
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
  }
  // Median time of one call, when `calls` of them (record(i) each) are replayed as one graph.
  template <class F>
  double operator()(int calls, int repeats, F record) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    usleep(pause);  // the power budget recovers: a policy runs in bursts
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < calls; ++i) record(i, stream);
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    std::vector<float> times;
    static Buffer<unsigned long long[2]> before(256), after(256);
    for (int i = 0; i < repeats + 1; ++i) {
      read_clocks<<<1056, 32, 0, stream>>>(before.data);
      CHECK(cudaEventRecord(begin, stream));
      CHECK(cudaGraphLaunch(exec, stream));
      CHECK(cudaEventRecord(end, stream));
      read_clocks<<<1056, 32, 0, stream>>>(after.data);
      CHECK(cudaStreamSynchronize(stream));
      float ms;
      CHECK(cudaEventElapsedTime(&ms, begin, end));
      if (i) times.push_back(ms);
    }
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    unsigned long long b[132][2], a[132][2];
    CHECK(cudaMemcpy(b, before.data, sizeof b, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(a, after.data, sizeof a, cudaMemcpyDeviceToHost));
    std::vector<double> rates;
    for (int i = 0; i < 132; ++i) rates.push_back(double(a[i][0] - b[i][0]) / double(a[i][1] - b[i][1]));
    std::nth_element(rates.begin(), rates.begin() + 66, rates.end());
    ghz = rates[66];
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    return times[times.size() / 2] * 1e3 / calls;
  }
};

// Best of the library's first heuristics, weights [n, k] and x [m, k] row-major.
struct Library {
  cublasLtHandle_t handle;
  Buffer<uint8_t> workspace{64 << 20};
  Library() { CHECK(cublasLtCreate(&handle)); }
  double best(Timer& timer, int m, int n, int k, int ld, const bf16* x, const bf16* w, int64_t w_pitch,
              int sets, int calls, bf16* y) {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    const cublasOperation_t t = CUBLAS_OP_T;
    CHECK(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CHECK(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
    CHECK(cublasLtMatrixLayoutCreate(&a, CUDA_R_16BF, k, n, ld));
    CHECK(cublasLtMatrixLayoutCreate(&b, CUDA_R_16BF, k, m, ld));
    CHECK(cublasLtMatrixLayoutCreate(&c, CUDA_R_16BF, n, m, n));
    cublasLtMatmulPreference_t preference;
    CHECK(cublasLtMatmulPreferenceCreate(&preference));
    const size_t bytes = workspace.count;
    CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                               sizeof bytes));
    cublasLtMatmulHeuristicResult_t results[8];
    int found = 0;
    CHECK(cublasLtMatmulAlgoGetHeuristic(handle, op, a, b, c, c, preference, 8, results, &found));
    const float one = 1, zero = 0;
    double best = 1e30;
    for (int r = 0; r < found; ++r)
      best = std::min(best, timer(calls, 3, [&](int i, cudaStream_t s) {
                        CHECK(cublasLtMatmul(handle, op, &one, w + (i % sets) * w_pitch, a, x, b, &zero, y, c,
                                             y, c, &results[r].algo, workspace.data, bytes, s));
                      }));
    return best;
  }
};

struct Shape {
  const char* name;
  int n, k;
  LinearRows rows;
  int flags;  // as in Case
  bool vision, main = true;
};
constexpr Shape kShapes[] = {
    {"qkv", 2560, 2048, LinearRows::heads, 64, false},
    {"qkv_plain", 2560, 2048, LinearRows::plain, 0, false, false},
    {"o", 2048, 2048, LinearRows::plain, 8 | 32, false},
    {"gate_up", 32768, 2048, LinearRows::pair, 2 | 64, false},
    {"down", 2048, 16384, LinearRows::plain, 8 | 32, false},
    {"v_qkv", 3456, 1152, LinearRows::plain, 1 | 128, true},
    {"v_o", 1152, 1152, LinearRows::plain, 1 | 8 | 32, true},
    {"v_fc1", 4352, 1152, LinearRows::plain, 1 | 2 | 128, true},
    {"v_fc2", 1152, 4304, LinearRows::plain, 1 | 8 | 32, true},
    {"v_patch", 1152, 592, LinearRows::plain, 1 | 8 | 32, true},
    {"v_head", 2048, 1152, LinearRows::plain, 1 | 128, true},
};

// only: time (and launch three times before, for a profiler) just this tactic.
void time_shape(const Shape& shape, int m, Timer& timer, Library* library, size_t count,
                const LinearTactic* only, int mask, int warm = 0) {
  const int n = shape.n, k = shape.k, flags = shape.flags & mask;
  const int ld = k > 1024 ? ceil_div(k, 64) * 64 : k;  // rows start on 128 bytes, as the program stores them
  const int64_t pitch = int64_t(n) * ld;
  const int sets = warm ? warm : std::clamp<int>(ceil_div(int(200e6 / (pitch * 2)), 1) + 1, 3, 48),
            calls = std::clamp(sets, 12, 48);  // warm: so many sets of weights, that may stay in L2
  const bool pair = shape.rows == LinearRows::pair, heads = shape.rows == LinearRows::heads;
  const int columns = pair ? n / 2 : heads ? 2048 : ceil_div(n, 64) * 64;
  static Buffer<bf16> x(1024 * 16384), w(240 << 20), y(1024 * 32768), residual(1024 * 4304), keys(2048 * 256),
      values(2048 * 256);
  static Buffer<float> bias(65536), stats(1024 * 512), out_stats(1024 * 256);
  static Buffer<float2> rotary(2048 * 128);
  static bool ready = false;
  if (!ready) {
    x.normal(1.f, 0, 1), w.normal(0.02f, 0, 2), residual.normal(1.f, 0, 3), bias.normal(0.1f, 0, 4),
        fill_stats<<<512, 256>>>(stats.data, stats.count / 2);
    fill_rotary<<<512, 256>>>(rotary.data, 2048, 128);
    ready = true;
  }
  LinearParams p{};
  p.out = y.data, p.out_stride = columns;
  if (flags & 1) p.bias = bias.data;
  if (flags & 2) p.activation = LinearActivation::gelu_tanh;
  if (flags & 8) p.residual = residual.data, p.residual_stride = n, p.residual_period = m;
  if (flags & 32) p.out_stats = out_stats.data, p.out_stat_slots = ceil_div(n, 64);
  if (flags & (64 | 128))
    p.row_stats = stats.data, p.row_stat_slots = k / 64, p.inverse_width = 1.f / k, p.epsilon = 1e-6f;
  if (flags & 128) p.centred = 1;
  if (heads) {
    p.rotary = reinterpret_cast<float*>(rotary.data), p.keys = keys.data, p.values = values.data;
    p.kv_stride = 256, p.head_dim = 256, p.query_heads = 8, p.kv_heads = 1;
  }
  const double reference =
      !library ? 1 : library->best(timer, m, n, k, ld, x.data, w.data, pitch, sets, calls, y.data);

  struct Row {
    double us;
    LinearTactic tactic;
  };
  const LinearProblem base{m, n, k, x.data, w.data, ld, ld, shape.rows};
  // The best by estimate, and the fastest of them again with operands shared by multicast.
  std::vector<LinearTactic> candidates = linear_candidates(base, p, 132);
  candidates.resize(std::min<size_t>(candidates.size(), count));
  if (only) candidates = {*only};
  std::vector<Row> rows;
  const auto measure = [&](const LinearTactic& t) {
    const int resident = resident_clusters(base, p, t);
    std::vector<LinearLaunch> launches;
    for (int s = 0; s < sets; ++s) {
      LinearProblem a = base;
      a.w = w.data + s * pitch;
      launches.push_back(plan_linear(a, p, t, resident));
    }
    for (int i = 0; only && i < 3; ++i) launch(launches[i % sets], nullptr);
    CHECK(cudaDeviceSynchronize());
    const double us = timer(calls, 3, [&](int i, cudaStream_t s) { launch(launches[i % sets], s); });
    rows.push_back({us, t});
    std::fprintf(stderr, "%s %d %d %d r%d n%d c%d%d%d.%d grid %d: %.2f (%.2f GHz)\n", shape.name, m, n, k,
                 t.rows, t.tokens, t.cluster_rows, t.cluster_tokens, t.split, t.resident, launches[0].grid,
                 us, timer.ghz);
  };
  const auto faster = [](const Row& a, const Row& b) { return a.us < b.us; };
  for (const LinearTactic& t : candidates) measure(t);
  std::sort(rows.begin(), rows.end(), faster);
  for (size_t i = 0, best = std::min<size_t>(rows.size(), only ? 0 : 5); i < best; ++i)
    for (int which : {0, 1, 2}) {
      LinearTactic t = rows[i].tactic;
      if (which != 1) t.cluster_rows = 2;
      if (which > 0) t.cluster_tokens = 2;
      if (t.split == 1 && linear_refusal(base, p, t).empty()) measure(t);
    }
  std::sort(rows.begin(), rows.end(), faster);
  const double flop = 2.0 * m * n * k;
  std::printf("%-9s %4d %5d %5d | cublasLt %7.2f (%3.0f TF) |", shape.name, m, n, k, reference,
              flop / reference * 1e-6);
  for (size_t i = 0; i < std::min<size_t>(rows.size(), 5); ++i) {
    const LinearTactic& t = rows[i].tactic;
    Verdict v{0};
    if (i == 0) {
      CHECK(cudaMemset(y.data, 0xff, y.count * 2));
      launch(plan_linear(base, p, t, resident_clusters(base, p, t)), nullptr);
      CHECK(cudaDeviceSynchronize());
      v = verify(base, p, p.residual ? residual.data : nullptr, 41);
      std::printf(" %.2fx %s %.1e |", reference / rows[0].us, v.pass() ? "ok" : "FAIL", v.relative);
    }
    std::printf(" %.2f r%d n%d c%d%d%d.%d%s", rows[i].us, t.rows, t.tokens, t.cluster_rows, t.cluster_tokens,
                t.split, t.resident,
                i == 0 ? (" " + std::to_string(int(flop / rows[0].us * 1e-6)) + "TF;").c_str() : ";");
  }
  std::printf(" [%zu tried]\n", rows.size());
  std::fflush(stdout);
}

// <name|NxK> m rows tokens cluster_rows cluster_tokens split [flag mask [sets of weights]]; NxK: plain rows,
// the mask gives the flags. Split 12: two blocks share k; 21: two blocks per SM.
void one(Timer& timer, int argc, char** argv) {
  LinearTactic t{std::atoi(argv[2]), std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]),
                 std::atoi(argv[6]) % 10};
  t.resident = std::max(1, std::atoi(argv[6]) / 10);
  const int mask = argc > 7 ? std::atoi(argv[7]) : -1;
  int n = 0, k = 0;
  if (std::sscanf(argv[0], "%dx%d", &n, &k) == 2)
    time_shape({argv[0], n, k, LinearRows::plain, 1023, true}, std::atoi(argv[1]), timer, nullptr, 9, &t,
               mask);
  for (const Shape& shape : kShapes)
    if (!std::strcmp(shape.name, argv[0]))
      time_shape(shape, std::atoi(argv[1]), timer, nullptr, 9, &t, mask, argc > 8 ? std::atoi(argv[8]) : 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3)
    return std::printf("usage: bench_linear linear.fatbin check|small|time [m|0 [name [tactics [mask]]]]\n"),
           2;
  CHECK(cudaFree(nullptr));
  CHECK(cudaLibraryLoadFromFile(&library, argv[1], nullptr, nullptr, 0, nullptr, nullptr, 0));
  if (!std::strcmp(argv[2], "check") || !std::strcmp(argv[2], "small")) return check(argv[2][0] == 's') != 0;
  Timer timer;
  if (!std::strcmp(argv[2], "one")) return one(timer, argc - 3, argv + 3), 0;
  if (!std::strcmp(argv[2], "many")) {  // the arguments of `one` from lines of standard input
    char line[256], *words[16];
    while (std::fgets(line, sizeof line, stdin)) {
      int count = 0;
      for (char* w = std::strtok(line, " \n"); w && count < 16; w = std::strtok(nullptr, " \n"))
        words[count++] = w;
      if (count >= 7) one(timer, count, words);
    }
    return 0;
  }
  const int only = argc > 3 ? std::atoi(argv[3]) : 0;
  const std::string name = argc > 4 ? argv[4] : "all";
  const size_t count = argc > 5 ? std::atoi(argv[5]) : 12;
  const int mask = argc > 6 ? std::atoi(argv[6]) : -1;
  Library library_baseline;
  for (const Shape& shape : kShapes) {
    const std::vector<int> sizes =
        shape.vision ? std::vector<int>{256, 512, 768} : std::vector<int>{266, 456, 522, 560, 712, 816, 968};
    for (int m : sizes)
      if ((!only || only == m) && (name == "all" ? shape.main || m == 968 : name == shape.name))
        time_shape(shape, m, timer, &library_baseline, count, nullptr, mask);
  }
  return 0;
}
