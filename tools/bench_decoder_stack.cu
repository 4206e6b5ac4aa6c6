// The persistent decoder stack by itself: checked against plain kernels in f32, timed in chains of ten steps,
// and where its time goes. Self-contained:
//   nvcc -std=c++20 -O3 --expt-relaxed-constexpr -I src -gencode arch=compute_90a,code=sm_90a
//   [-DFLASHRT_STACK_TRACE]
//     tools/bench_decoder_stack.cu src/cuda/decoder_stack.cpp -o bench_decoder_stack
//   bench_decoder_stack check | time | sweep | trace        (trace needs FLASHRT_STACK_TRACE)
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/decoder_stack.h"
#include "cuda/kernels/decoder_stack_bias_sm90.cu"
#include "cuda/kernels/decoder_stack_sm90.cu"

using namespace flashrt;
using bf16 = __nv_bfloat16;

#define CHECK(x)                                                                              \
  do {                                                                                        \
    const cudaError_t e_ = (x);                                                               \
    if (e_ != cudaSuccess) std::printf("%s: %s\n", #x, cudaGetErrorString(e_)), std::exit(1); \
  } while (0)

__device__ float normal(uint64_t i, uint64_t seed) {
  uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ull + seed * 0xD1B54A32D192ED03ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull, z = (z ^ z >> 27) * 0x94D049BB133111EBull, z ^= z >> 31;
  const float u = (float(z & 0xffffff) + 1) / 16777217.f, v = float(z >> 40 & 0xffffff) / 16777216.f;
  return sqrtf(-2 * logf(u)) * cospif(2 * v);
}
template <class T>
__global__ void fill(T* to, size_t n, float scale, uint64_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += size_t(gridDim.x) * blockDim.x)
    to[i] = T(normal(i, seed) * scale);
}
template <class T>
T* random(size_t n, float scale) {
  static uint64_t seed = 1;
  T* p;
  CHECK(cudaMalloc(&p, n * sizeof(T)));
  fill<<<1024, 256>>>(p, n, scale, seed++);
  return p;
}

// ---- the definition, plainly ----
__global__ void ref_norm(const bf16* x, const float* scale, const float* shift, float eps, int k, float* y) {
  __shared__ float sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  const bf16* row = x + size_t(blockIdx.x) * k;
  float s = 0;
  for (int i = threadIdx.x; i < k; i += blockDim.x) s += float(row[i]) * float(row[i]);
  atomicAdd(&sum, s);
  __syncthreads();
  const float r = rsqrtf(sum / k + eps);
  for (int i = threadIdx.x; i < k; i += blockDim.x)
    y[size_t(blockIdx.x) * k + i] = float(row[i]) * r * (1 + scale[i]) + shift[i];
}
template <class X>
__global__ void ref_linear(const X* x, const bf16* w, int k, int n, float* y) {  // block: (row, 8 outputs)
  const int o = blockIdx.y * 8 + threadIdx.x / 32;
  float s = 0;
  for (int i = threadIdx.x % 32; i < k; i += 32)
    s += float(x[size_t(blockIdx.x) * k + i]) * float(w[size_t(o) * k + i]);
  for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
  if (threadIdx.x % 32 == 0) y[size_t(blockIdx.x) * n + o] = s;
}
__global__ void ref_rope(const float* qkv, const float2* rope, int position, bf16* q, bf16* keys,
                         bf16* values) {
  const int row = blockIdx.x, head = blockIdx.y, i = threadIdx.x;  // 128 threads
  const float a = qkv[row * 2560 + head * 256 + i], b = qkv[row * 2560 + head * 256 + i + 128];
  const float2 c = head < 9 ? rope[(position + row) * 128 + i] : make_float2(1, 0);
  bf16* to =
      head < 8 ? q + row * 2048 + head * 256 : (head == 8 ? keys : values) + size_t(position + row) * 256;
  to[i] = bf16(a * c.x - b * c.y), to[i + 128] = bf16(b * c.x + a * c.y);
}
__global__ void ref_attention(const bf16* q, const bf16* keys, const bf16* values, int position, int rows,
                              int lead, bf16* y) {
  __shared__ float s[1024], red[256];
  const int row = blockIdx.x, head = blockIdx.y, n = row < lead ? position + lead : position + rows,
            t = threadIdx.x;
  float m = -1e30f;
  for (int j = t; j < n; j += 256) {
    float v = 0;
    for (int d = 0; d < 256; ++d)
      v += float(q[row * 2048 + head * 256 + d]) * float(keys[size_t(j) * 256 + d]);
    s[j] = v / 16, m = fmaxf(m, s[j]);
  }
  red[t] = m;
  __syncthreads();
  for (int i = 0; i < 256; ++i) m = fmaxf(m, red[i]);
  float l = 0, o = 0;
  for (int j = 0; j < n; ++j) {
    const float w = expf(s[j] - m);
    l += w, o += w * float(values[size_t(j) * 256 + t]);
  }
  y[row * 2048 + head * 256 + t] = bf16(o / l);
}
__global__ void ref_residual(const float* y, const float* gate, bf16* x, int n) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  x[i] = bf16(float(x[i]) + gate[i % n] * y[i]);
}
__global__ void ref_geglu(const float* y, bf16* h) {
  const int row = blockIdx.x, i = blockIdx.y * 256 + threadIdx.x;
  const float g = y[row * 8192 + i], u = y[row * 8192 + 4096 + i];
  h[row * 4096 + i] = bf16(.5f * g * (1 + tanhf(.7978845608f * (g + .044715f * g * g * g))) * u);
}

// What stands between two steps: x = bf16(x / rms(x)).
__global__ void between(bf16* x) {
  pdl_launch();
  pdl_wait();
  __shared__ float sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  float s = 0;
  for (int i = threadIdx.x; i < 1024; i += 256)
    s += float(x[blockIdx.x * 1024 + i]) * float(x[blockIdx.x * 1024 + i]);
  for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
  if (threadIdx.x % 32 == 0) atomicAdd(&sum, s);
  __syncthreads();
  for (int i = threadIdx.x; i < 1024; i += 256)
    x[blockIdx.x * 1024 + i] = bf16(float(x[blockIdx.x * 1024 + i]) * rsqrtf(sum / 1024 + 1e-6f));
}

constexpr int kSteps = 10;

struct Model {
  int rows, position, lead, layers, capacity;
  std::vector<bf16*> qkv, out, gate_up, down, keys, values;
  std::vector<float*> scale1, shift1, gate1, scale2, shift2, gate2, bias1, bias2;
  float2* rope;
  bf16 *x0, *x, *ref;
  int* at;
  StackLayer* stack_layers;
  StackVectors* vectors;
  uint8_t* exchange;
  unsigned long long* trace;
  StackLaunch launch;
  DecoderStackParams params;
};

void enqueue(const void* kernel, dim3 grid, dim3 block, unsigned shared, void** args, cudaStream_t stream,
             bool cooperative) {
  cudaLaunchConfig_t c{.gridDim = grid, .blockDim = block, .dynamicSmemBytes = shared, .stream = stream};
  cudaLaunchAttribute a[2];
  a[0].id = cudaLaunchAttributeProgrammaticStreamSerialization,
  a[0].val.programmaticStreamSerializationAllowed = 1;
  a[1].id = cudaLaunchAttributeCooperative, a[1].val.cooperative = 1;
  c.attrs = a, c.numAttrs = cooperative ? 2 : 1;
  CHECK(cudaLaunchKernelExC(&c, kernel, args));
}

const void* kernel_of(int rows) {
  return rows <= 16 ? (const void*)decoder_stack_rows16 : (const void*)decoder_stack_rows64;
}

Model make(int rows, int position, int lead, int layers) {
  Model m{.rows = rows, .position = position, .lead = lead, .layers = layers, .capacity = position + rows};
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  std::vector<StackLayer> maps(layers);
  std::vector<StackVectors> vectors(layers);
  for (int l = 0; l < layers; ++l) {
    m.qkv.push_back(random<bf16>(2560 * 1024, .02f * 1.5f)), m.out.push_back(random<bf16>(1024 * 2048, .02f));
    m.gate_up.push_back(random<bf16>(8192 * 1024, .02f * 1.5f)),
        m.down.push_back(random<bf16>(1024 * 4096, .02f));
    m.keys.push_back(random<bf16>(size_t(m.capacity) * 256, 1.f)),
        m.values.push_back(random<bf16>(size_t(m.capacity) * 256, 1.f));
    for (auto* v : {&m.scale1, &m.shift1, &m.gate1, &m.scale2, &m.shift2, &m.gate2})
      v->push_back(random<float>(1024, .5f));
    m.bias1.push_back(random<float>(2560, 0)), m.bias2.push_back(random<float>(8192, 0));
    const auto bias = [&](const bf16* w, const float* shift, float* b, int n) {
      decoder_stack_bias<<<(n + 7) / 8, 256>>>(
          StackBiasParams{.w = w, .shift = shift, .bias = b, .n = n, .k = 1024});
    };
    bias(m.qkv[l], m.shift1[l], m.bias1[l], 2560), bias(m.gate_up[l], m.shift2[l], m.bias2[l], 8192);
    if (!encode_stack_layer({m.qkv[l], m.out[l], m.gate_up[l], m.down[l], m.keys[l], m.values[l], m.capacity},
                            encode, &maps[l]))
      std::printf("no tensor map\n"), std::exit(1);
    vectors[l] = {m.scale1[l], m.scale2[l], m.bias1[l], m.bias2[l], m.gate1[l], m.gate2[l]};
  }
  std::vector<float2> rope(size_t(m.capacity) * 128);
  for (int p = 0; p < m.capacity; ++p)
    for (int i = 0; i < 128; ++i) {
      const double a = p * std::pow(10000., -i / 128.);
      rope[p * 128 + i] = make_float2(float(std::cos(a)), float(std::sin(a)));
    }
  CHECK(cudaMalloc(&m.rope, rope.size() * 8));
  CHECK(cudaMemcpy(m.rope, rope.data(), rope.size() * 8, cudaMemcpyHostToDevice));
  m.x0 = random<bf16>(rows * 1024, 1.f), m.x = random<bf16>(rows * 1024, 0),
  m.ref = random<bf16>(rows * 1024, 0);
  CHECK(cudaMalloc(&m.at, 4));
  CHECK(cudaMemcpy(m.at, &position, 4, cudaMemcpyHostToDevice));
  CHECK(cudaMalloc(&m.stack_layers, layers * sizeof(StackLayer)));
  CHECK(cudaMemcpy(m.stack_layers, maps.data(), layers * sizeof(StackLayer), cudaMemcpyHostToDevice));
  // A step's vectors lie elsewhere than the last one's, as a policy's do: by the time they are read, they are
  // not in L2.
  for (int i = layers; i < kSteps * layers; ++i) {
    const auto copy = [](const float* from, size_t n) {
      float* to;
      CHECK(cudaMalloc(&to, n * 4));
      CHECK(cudaMemcpy(to, from, n * 4, cudaMemcpyDeviceToDevice));
      return to;
    };
    const StackVectors v = vectors[i - layers];
    vectors.push_back({copy(v.scale1, 1024), copy(v.scale2, 1024), copy(v.bias1, 2560), copy(v.bias2, 8192),
                       copy(v.gate1, 1024), copy(v.gate2, 1024)});
  }
  CHECK(cudaMalloc(&m.vectors, vectors.size() * sizeof(StackVectors)));
  CHECK(cudaMemcpy(m.vectors, vectors.data(), vectors.size() * sizeof(StackVectors), cudaMemcpyHostToDevice));
  const StackExchange at = stack_exchange(rows);
  CHECK(cudaMalloc(&m.exchange, at.bytes));
  CHECK(cudaMemset(m.exchange, 0, at.bytes));
  const size_t trace = size_t(128) * layers * 64 * 8;
  CHECK(cudaMalloc(&m.trace, trace));
  CHECK(cudaMemset(m.trace, 0, trace));
  m.launch = plan_decoder_stack(rows);
  CHECK(cudaFuncSetAttribute(kernel_of(rows), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             m.launch.shared_bytes));
  m.params = {.layers = m.stack_layers,
              .vectors = m.vectors,
              .layer_count = layers,
              .rows = rows,
              .lead_rows = lead,
              .stages = m.launch.stages,
              .silu = 0,
              .eps = 1e-6f,
              .score_scale = 1.4426950409f / 16,
              .position = m.at,
              .rope = m.rope,
              .x = m.x,
              .y = m.x,
              .exchange = m.exchange,
              .at = at,
              .trace = m.trace};
  return m;
}

void run(Model& m, cudaStream_t s, bool cooperative, int step = 0) {
  DecoderStackParams params = m.params;
  params.vectors += step * m.layers;
  void* args[] = {&params};
  enqueue(kernel_of(m.rows), m.launch.grid, m.launch.block, m.launch.shared_bytes, args, s, cooperative);
}

void reference(Model& m) {
  float *n = random<float>(m.rows * 1024, 0), *y = random<float>(m.rows * 8192, 0);
  bf16 *q = random<bf16>(m.rows * 2048, 0), *a = random<bf16>(m.rows * 2048, 0),
       *h = random<bf16>(m.rows * 4096, 0);
  CHECK(cudaMemcpy(m.ref, m.x0, m.rows * 2048, cudaMemcpyDeviceToDevice));
  const int r = m.rows;
  for (int l = 0; l < m.layers; ++l) {
    ref_norm<<<r, 256>>>(m.ref, m.scale1[l], m.shift1[l], 1e-6f, 1024, n);
    ref_linear<<<dim3(r, 320), 256>>>(n, m.qkv[l], 1024, 2560, y);
    ref_rope<<<dim3(r, 10), 128>>>(y, m.rope, m.position, q, m.keys[l], m.values[l]);
    ref_attention<<<dim3(r, 8), 256>>>(q, m.keys[l], m.values[l], m.position, r, m.lead, a);
    ref_linear<<<dim3(r, 128), 256>>>(a, m.out[l], 2048, 1024, y);
    ref_residual<<<r * 4, 256>>>(y, m.gate1[l], m.ref, 1024);
    ref_norm<<<r, 256>>>(m.ref, m.scale2[l], m.shift2[l], 1e-6f, 1024, n);
    ref_linear<<<dim3(r, 1024), 256>>>(n, m.gate_up[l], 1024, 8192, y);
    ref_geglu<<<dim3(r, 16), 256>>>(y, h);
    ref_linear<<<dim3(r, 128), 256>>>(h, m.down[l], 4096, 1024, y);
    ref_residual<<<r * 4, 256>>>(y, m.gate2[l], m.ref, 1024);
  }
  CHECK(cudaDeviceSynchronize());
}

void release(Model& m) {
  for (auto* v : {&m.qkv, &m.out, &m.gate_up, &m.down, &m.keys, &m.values})
    for (bf16* p : *v) cudaFree(p);
}

int m_pace(int rows) { return plan_decoder_stack(rows).pace; }

int failures = 0;
void check(int rows, int position, int lead, int layers) {
  Model m = make(rows, position, lead, layers);
  reference(m);
  std::vector<bf16> want(rows * 1024), got(rows * 1024), first;
  CHECK(cudaMemcpy(want.data(), m.ref, rows * 2048, cudaMemcpyDeviceToHost));
  double worst = 0;
  bool same = true;
  for (int repeat = 0; repeat < 5; ++repeat) {
    // what the copy engine finds beyond the prefix must not matter
    for (int l = 0; l < layers; ++l) {
      CHECK(cudaMemset(m.keys[l] + size_t(position) * 256, 0xff, rows * 512));
      CHECK(cudaMemset(m.values[l] + size_t(position) * 256, 0xff, rows * 512));
    }
    CHECK(cudaMemcpy(m.x, m.x0, rows * 2048, cudaMemcpyDeviceToDevice));
    run(m, 0, false);
    const cudaError_t e = cudaDeviceSynchronize();
    if (e != cudaSuccess)
      std::printf("rows %d position %d: %s\n", rows, position, cudaGetErrorString(e)), std::exit(1);
    CHECK(cudaMemcpy(got.data(), m.x, rows * 2048, cudaMemcpyDeviceToHost));
    double d = 0, n = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      const double a = float(got[i]), b = float(want[i]);
      d += (a - b) * (a - b), n += b * b;
    }
    worst = std::max(worst, std::isnan(d) ? 1e9 : std::sqrt(d / n));
    if (repeat == 0) first = got;
    same = same && std::memcmp(first.data(), got.data(), rows * 2048) == 0;
  }
  const bool ok = worst < (layers > 4 ? 2e-2 : 1e-2) && same;
  failures += !ok;
  std::printf("rows %2d position %4d lead %d layers %2d: relative %.2e, repeats %s  %s\n", rows, position,
              lead, layers, worst, same ? "equal" : "DIFFER", ok ? "ok" : "FAIL");
  std::fflush(stdout);
  release(m);
}

void time(int rows, int position, bool cooperative, int stages, int pace = 0) {
  Model m = make(rows, position, 0, 18);
  m.params.pace = pace;
  if (stages != 0) {
    m.launch.shared_bytes -= (m.params.stages - stages) * kStackStageBytes;
    m.params.stages = stages;
  }
  cudaStream_t s;
  CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  for (int step = 0; step < kSteps; ++step) {
    bf16* x = m.x;
    void* args[] = {&x};
    enqueue((const void*)between, rows, 256, 0, args, s, false);
    run(m, s, cooperative, step);
  }
  CHECK(cudaStreamEndCapture(s, &graph));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t a, b;
  cudaEventCreate(&a), cudaEventCreate(&b);
  std::vector<float> ms;
  for (int i = 0; i < 60; ++i) {
    CHECK(cudaMemcpyAsync(m.x, m.x0, rows * 2048, cudaMemcpyDeviceToDevice, s));
    cudaEventRecord(a, s), cudaGraphLaunch(exec, s), cudaEventRecord(b, s);
    CHECK(cudaStreamSynchronize(s));
    float t;
    cudaEventElapsedTime(&t, a, b);
    if (i >= 10) ms.push_back(t);
  }
  std::sort(ms.begin(), ms.end());
  std::printf(
      "rows %2d position %4d stages %2d pace %4d cooperative %d: ten steps %.3f ms (min %.3f, p99 %.3f), "
      "%.2f us per layer\n",
      rows, position, m.params.stages, pace, cooperative, ms[25], ms[0], ms[48], ms[25] * 1e3 / 180);
  std::fflush(stdout);
#ifdef FLASHRT_STACK_TRACE
  std::vector<unsigned long long> t(size_t(128) * 18 * 64);
  CHECK(cudaMemcpy(t.data(), m.trace, t.size() * 8, cudaMemcpyDeviceToHost));
  struct Mark {
    int id;
    const char* name;
  };
  static const Mark kMarks[] = {
      {0, "qkv begin"},     {16, "  asked"}, {17, "  first"},      {18, "  last"},
      {1, "  multiplied"},  {2, "  traded"}, {12, "attn begin"},   {19, "  asked"},
      {20, "  first"},      {21, "  last"},  {13, "  multiplied"}, {14, "merge begin"},
      {15, "out begin"},    {22, "  asked"}, {23, "  first"},      {24, "  last"},
      {4, "  multiplied"},  {5, "  traded"}, {6, "gate-up begin"}, {25, "  asked"},
      {26, "  first"},      {27, "  last"},  {7, "  multiplied"},  {8, "  traded"},
      {9, "down begin"},    {28, "  asked"}, {29, "  first"},      {30, "  last"},
      {10, "  multiplied"}, {11, "  traded"}};
  constexpr int kCount = sizeof kMarks / sizeof *kMarks;
  // Every block has the second norm's last packets at nearly the same time: the layer's common clock.
  constexpr int kSync = 27;
  int sync = 0;
  while (kMarks[sync].id != kSync) ++sync;
  std::printf(
      "clocks since gate-up had its last packets, median over blocks and layers 2..15 (p10, p90); group 0 | "
      "1\n");
  for (int k = sync + 1; k < sync + 1 + kCount; ++k) {
    const int id = kMarks[k % kCount].id;
    std::printf("%-16s", kMarks[k % kCount].name);
    for (int g = 0; g < 2; ++g) {
      std::vector<double> v;
      for (int blk = 0; blk < 128; ++blk)
        for (int l = 2; l < 16; ++l) {
          const auto* from = &t[(size_t(blk) * 18 + l) * 64];
          const auto now = from[(k >= kCount ? 64 : 0) + g * 32 + id];
          if (now != 0) v.push_back(double(now) - double(from[kSync]));
        }
      std::sort(v.begin(), v.end());
      if (v.empty())
        std::printf(" | %28s", "-");
      else
        std::printf(" | %6.0f (%6.0f, %6.0f) %4zu", v[v.size() / 2], v[v.size() / 10], v[v.size() * 9 / 10],
                    v.size());
    }
    std::printf("\n");
  }
#endif
  release(m);
}

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "check";
  if (what == "check") {
    const int shapes[][4] = {{10, 522, 0, 2}, {50, 968, 0, 2},  {51, 560, 1, 2}, {8, 64, 0, 4},
                             {16, 100, 0, 2}, {17, 1, 0, 2},    {56, 700, 0, 2}, {64, 960, 0, 2},
                             {33, 31, 1, 2},  {10, 532, 0, 18}, {50, 712, 0, 18}};
    for (const auto& s : shapes) check(s[0], s[1], s[2], s[3]);
    std::printf("%d failures\n", failures);
    return failures != 0;
  }
  if (what == "quick") {
    check(10, 100, 0, 2);
    return failures != 0;
  }
  if (what == "sweep") {  // of the pace
    for (int pace : {0, 1000, 1250, 1500, 1750}) time(10, 522, true, 0, pace), time(50, 968, true, 0, pace);
    return 0;
  }
  time(10, 522, true, 0, m_pace(10));
  time(50, 968, true, 0, m_pace(50));
  if (what == "time") time(50, 712, true, 0, m_pace(50)), time(51, 560, true, 0, m_pace(51));
  return 0;
}
