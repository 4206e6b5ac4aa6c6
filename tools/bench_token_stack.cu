// The persistent token stack by itself: checked against plain kernels in f32, timed at the shapes of
// published models, and where its time goes. Self-contained:
//   nvcc -std=c++20 -O3 --expt-relaxed-constexpr -I src -gencode arch=compute_90a,code=sm_90a
//   [-DFLASHRT_STACK_TRACE]
//     tools/bench_token_stack.cu src/cuda/token_stack.cpp -o bench_token_stack
//   bench_token_stack check | time MODEL [POSITION [IN_FLIGHT PACE AHEAD]…] | small      (small: for
//   compute-sanitizer)
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/kernels/token_stack_sm90.cu"
#include "cuda/token_stack.h"

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
  return sqrtf(fmaxf(-2 * __logf(u), 0.f)) * cospif(2 * v);
}
template <class T>
__global__ void fill(T* to, size_t n, float scale, uint64_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += size_t(gridDim.x) * blockDim.x)
    to[i] = T(normal(i, seed) * scale);
}
std::vector<void*> owned;
template <class T>
T* room(size_t n) {
  T* p;
  CHECK(cudaMalloc(&p, n * sizeof(T)));
  owned.push_back(p);
  return p;
}
template <class T>
T* random(size_t n, float scale) {
  static uint64_t seed = 1;
  T* p = room<T>(n);
  fill<<<2048, 256>>>(p, n, scale, seed++);
  return p;
}
void release() {
  for (void* p : owned) cudaFree(p);
  owned.clear();
}

// ---- the definition, plainly ----
__global__ void ref_norm(const bf16* x, const float* scale, float eps, int k, float* y) {
  __shared__ float sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  float s = 0;
  for (int i = threadIdx.x; i < k; i += blockDim.x) s += float(x[i]) * float(x[i]);
  atomicAdd(&sum, s);
  __syncthreads();
  const float r = rsqrtf(sum / k + eps);
  for (int i = threadIdx.x; i < k; i += blockDim.x) y[i] = float(x[i]) * r * (1 + scale[i]);
}
template <class X>
__global__ void ref_linear(const X* x, const bf16* w, const float* bias, int k, int n, float* y) {
  const int o = blockIdx.x * 8 + threadIdx.x / 32;
  if (o >= n) return;
  float s = 0;
  for (int i = threadIdx.x % 32; i < k; i += 32) s += float(x[i]) * float(w[size_t(o) * k + i]);
  for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
  if (threadIdx.x % 32 == 0) y[o] = s + (bias ? bias[o] : 0);
}
// One block of d/2 threads per head of q, k, v: norm, rotation, append; q stays f32.
__global__ void ref_heads(const float* qkv, const float* q_norm, const float* k_norm, const float* rope,
                          int position, int heads, int kv_heads, int d, float eps, float* q, bf16* keys,
                          bf16* values) {
  __shared__ float sum;
  const int head = blockIdx.x, i = threadIdx.x;
  float a = float(bf16(qkv[head * d + i])), b = float(bf16(qkv[head * d + i + d / 2]));
  const float* norm = head < heads ? q_norm : head < heads + kv_heads ? k_norm : nullptr;
  if (i == 0) sum = 0;
  __syncthreads();
  atomicAdd(&sum, a * a + b * b);
  __syncthreads();
  if (norm) {
    const float r = rsqrtf(sum / d + eps);
    a *= r * (1 + norm[i]), b *= r * (1 + norm[i + d / 2]);
  }
  float c = 1, s = 0;
  if (head < heads + kv_heads)
    c = rope[size_t(position) * d + 2 * i], s = rope[size_t(position) * d + 2 * i + 1];
  const float x = a * c - b * s, y = b * c + a * s;
  if (head < heads) {
    q[head * d + i] = x, q[head * d + i + d / 2] = y;
    return;
  }
  const int kv = (head - heads) % kv_heads;
  bf16* to = (head < heads + kv_heads ? keys : values) + (size_t(position) * kv_heads + kv) * d;
  to[i] = bf16(x), to[i + d / 2] = bf16(y);
}
__global__ void ref_attention(const float* q, const bf16* keys, const bf16* values, int position, int window,
                              int heads, int kv_heads, int d, bf16* y) {  // one block of d threads per head
  extern __shared__ float s[];
  __shared__ float red[128];
  const int head = blockIdx.x, kv = head / (heads / kv_heads), t = threadIdx.x;
  const int begin = window > 0 && position + 1 > window ? position + 1 - window : 0;
  float m = -1e30f;
  for (int j = begin + t; j <= position; j += d) {
    float v = 0;
    for (int c = 0; c < d; ++c) v += q[head * d + c] * float(keys[(size_t(j) * kv_heads + kv) * d + c]);
    s[j - begin] = v * rsqrtf(float(d)), m = fmaxf(m, s[j - begin]);
  }
  red[t] = m;
  __syncthreads();
  for (int i = 0; i < d; ++i) m = fmaxf(m, red[i]);
  float l = 0, o = 0;
  for (int j = begin; j <= position; ++j) {
    const float w = expf(s[j - begin] - m);
    l += w, o += w * float(values[(size_t(j) * kv_heads + kv) * d + t]);
  }
  y[head * d + t] = bf16(o / l);
}
__global__ void ref_residual(const float* y, bf16* x, int n) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < n) x[i] = bf16(float(x[i]) + y[i]);
}
__global__ void ref_gate(const float* y, float share, bf16* h, int n) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < n) h[i] = bf16(share * y[i] / (1 + expf(-y[i])) * y[n + i]);
}
__global__ void ref_add(const float* y, float* sum, int n) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i < n) sum[i] += y[i];
}

struct Options {
  bool bias = false, head_norms = false, embedding = false;
  int window = 0;  // of every second layer
};
struct Model {
  TokenShape s;
  Options o;
  std::vector<bf16*> qkv, out, router, gate_up, down, keys, values, ref_keys, ref_values;
  std::vector<float*> norm1, norm2, bias, q_norm, k_norm;
  float *rope, *norm, *logits, *ref_logits;
  bf16 *x, *table, *head;
  int *position, *id;
  TokenStackParams params;
  TokenLaunch launch;
};
constexpr float kScale = 1.f, kEps = 1e-6f;

Model make(TokenShape s, Options o) {
  Model m{.s = s, .o = o};
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found));
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  const size_t attended = size_t(s.heads) * s.head_dim, kv = size_t(s.kv_heads) * s.head_dim,
               qkv = attended + 2 * kv, experts = std::max(s.experts, 1);
  std::vector<TokenLayer> layers(s.layers);
  std::vector<TokenMaps> maps(s.layers);
  for (int l = 0; l < s.layers; ++l) {
    const auto matrix = [&](std::vector<bf16*>& to, size_t n, size_t k) {
      to.push_back(n ? random<bf16>(n * k, 1.f / std::sqrt(float(k))) : nullptr);
      return reinterpret_cast<const uint8_t*>(to.back());
    };
    const auto vector = [&](std::vector<float*>& to, bool there, size_t n) {
      to.push_back(there ? random<float>(n, .3f) : nullptr);
      return to.back();
    };
    TokenLayer& t = layers[l];
    t = {};
    t.qkv = matrix(m.qkv, qkv, s.width), t.out = matrix(m.out, s.width, attended);
    t.router = matrix(m.router, s.experts, s.width);
    t.gate_up = matrix(m.gate_up, experts * 2 * s.mlp, s.width);
    t.down = matrix(m.down, experts * s.width, s.mlp);
    t.norm1 = vector(m.norm1, true, s.width), t.norm2 = vector(m.norm2, true, s.width);
    t.qkv_bias = vector(m.bias, o.bias, qkv);
    t.q_norm = vector(m.q_norm, o.head_norms, s.head_dim),
    t.k_norm = vector(m.k_norm, o.head_norms, s.head_dim);
    for (auto* v : {&m.keys, &m.values, &m.ref_keys, &m.ref_values})
      v->push_back(random<bf16>(size_t(s.capacity) * kv, 1.f));
    t.k_cache = m.keys[l], t.v_cache = m.values[l], t.windowed = o.window > 0 && l % 2 == 1;
    if (!encode_token_cache(s, m.keys[l], m.values[l], encode, &maps[l]))
      std::printf("no map\n"), std::exit(1);
  }
  std::vector<float> rope(size_t(s.capacity) * s.head_dim);
  for (int p = 0; p < s.capacity; ++p)
    for (int i = 0; i < s.head_dim / 2; ++i) {
      const double a = p * std::pow(10000., -2. * i / s.head_dim);
      rope[size_t(p) * s.head_dim + 2 * i] = float(std::cos(a)),
                                        rope[size_t(p) * s.head_dim + 2 * i + 1] = float(std::sin(a));
    }
  m.rope = room<float>(rope.size());
  CHECK(cudaMemcpy(m.rope, rope.data(), rope.size() * 4, cudaMemcpyHostToDevice));
  m.norm = random<float>(s.width, .3f), m.head = random<bf16>(size_t(s.vocabulary) * s.width, .02f);
  m.logits = room<float>(s.vocabulary), m.ref_logits = room<float>(s.vocabulary);
  m.table = random<bf16>(size_t(64) * s.width, 1.f), m.x = m.table + 7 * s.width;
  m.position = room<int>(1), m.id = room<int>(1);
  const int id = 7;
  CHECK(cudaMemcpy(m.id, &id, 4, cudaMemcpyHostToDevice));

  TokenStackParams& p = m.params;
  p = {};
  cudaDeviceProp device;
  CHECK(cudaGetDeviceProperties(&device, 0));
  if (!plan_token_stack(s, device.multiProcessorCount, &p, &m.launch)) std::printf("no plan\n"), std::exit(1);
  auto* device_layers = room<TokenLayer>(s.layers);
  auto* device_maps = room<TokenMaps>(s.layers);
  CHECK(cudaMemcpy(device_layers, layers.data(), s.layers * sizeof(TokenLayer), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_maps, maps.data(), s.layers * sizeof(TokenMaps), cudaMemcpyHostToDevice));
  p.layers = device_layers, p.maps = device_maps;
  p.normalise = 1, p.window = o.window, p.vocabulary = 64;
  p.eps = p.head_eps = kEps, p.score_scale = 1.44269504f / std::sqrt(float(s.head_dim));
  p.function = PointFunction::silu;
  p.position = m.position, p.rope = m.rope, p.x = o.embedding ? m.table : m.x,
  p.ids = o.embedding ? m.id : nullptr;
  p.scale = kScale, p.norm = m.norm, p.head = reinterpret_cast<const uint8_t*>(m.head), p.logits = m.logits;
  p.exchange = room<uint8_t>(p.at.bytes);
  CHECK(cudaMemset(p.exchange, 0, p.at.bytes));
  const size_t trace = size_t(m.launch.grid) * (s.layers + 1) * (kTokenWorks + 1) * 16;
  p.trace = room<unsigned long long>(trace);
  CHECK(cudaMemset(p.trace, 0, trace * 8));
  const void* kernel = s.head_dim == 64 ? (const void*)token_stack_64 : (const void*)token_stack_128;
  CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(m.launch.shared_bytes)));
  return m;
}

void run(Model& m, cudaStream_t stream, bool cooperative = true) {
  cudaLaunchConfig_t c{.gridDim = m.launch.grid,
                       .blockDim = m.launch.block,
                       .dynamicSmemBytes = m.launch.shared_bytes,
                       .stream = stream};
  cudaLaunchAttribute a[2];
  a[0].id = cudaLaunchAttributeProgrammaticStreamSerialization,
  a[0].val.programmaticStreamSerializationAllowed = 1;
  a[1].id = cudaLaunchAttributeCooperative, a[1].val.cooperative = 1;
  c.attrs = a, c.numAttrs = cooperative ? 2 : 1;
  void* args[] = {&m.params};
  CHECK(cudaLaunchKernelExC(
      &c, m.s.head_dim == 64 ? (const void*)token_stack_64 : (const void*)token_stack_128, args));
}

void set_position(Model& m, int position) {
  CHECK(cudaMemcpy(m.position, &position, 4, cudaMemcpyHostToDevice));
}

void reference(Model& m, int position) {
  const TokenShape& s = m.s;
  const int attended = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim, qkv = attended + 2 * kv;
  float *n = room<float>(s.width), *y = room<float>(std::max({qkv, 2 * s.mlp, s.width, s.experts})),
        *q = room<float>(attended), *total = room<float>(s.width);
  bf16 *x = room<bf16>(s.width), *a = room<bf16>(attended), *h = room<bf16>(s.mlp);
  CHECK(cudaMemcpy(x, m.x, s.width * 2, cudaMemcpyDeviceToDevice));
  const auto blocks = [](int n) { return unsigned(n + 7) / 8; };
  const auto wide = [](int n) { return unsigned(n + 255) / 256; };
  for (int l = 0; l < s.layers; ++l) {
    ref_norm<<<1, 256>>>(x, m.norm1[l], kEps, s.width, n);
    ref_linear<<<blocks(qkv), 256>>>(n, m.qkv[l], m.bias[l], s.width, qkv, y);
    ref_heads<<<s.heads + 2 * s.kv_heads, s.head_dim / 2>>>(y, m.q_norm[l], m.k_norm[l], m.rope, position,
                                                            s.heads, s.kv_heads, s.head_dim, kEps, q,
                                                            m.ref_keys[l], m.ref_values[l]);
    ref_attention<<<s.heads, s.head_dim, (position + 1) * 4>>>(q, m.ref_keys[l], m.ref_values[l], position,
                                                               l % 2 == 1 ? m.o.window : 0, s.heads,
                                                               s.kv_heads, s.head_dim, a);
    ref_linear<<<blocks(s.width), 256>>>(a, m.out[l], nullptr, attended, s.width, y);
    ref_residual<<<wide(s.width), 256>>>(y, x, s.width);
    ref_norm<<<1, 256>>>(x, m.norm2[l], kEps, s.width, n);
    if (s.experts == 0) {
      ref_linear<<<blocks(2 * s.mlp), 256>>>(n, m.gate_up[l], nullptr, s.width, 2 * s.mlp, y);
      ref_gate<<<wide(s.mlp), 256>>>(y, 1.f, h, s.mlp);
      ref_linear<<<blocks(s.width), 256>>>(h, m.down[l], nullptr, s.mlp, s.width, y);
      ref_residual<<<wide(s.width), 256>>>(y, x, s.width);
      continue;
    }
    ref_linear<<<blocks(s.experts), 256>>>(n, m.router[l], nullptr, s.width, s.experts, y);
    std::vector<float> scores(s.experts);
    CHECK(cudaMemcpy(scores.data(), y, s.experts * 4, cudaMemcpyDeviceToHost));
    std::vector<int> order(s.experts);
    for (int e = 0; e < s.experts; ++e) order[e] = e;
    std::stable_sort(order.begin(), order.end(), [&](int i, int j) { return scores[i] > scores[j]; });
    double sum = 0;
    for (int i = 0; i < s.used; ++i) sum += std::exp(scores[order[i]] - scores[order[0]]);
    CHECK(cudaMemset(total, 0, s.width * 4));
    for (int i = 0; i < s.used; ++i) {
      const size_t e = order[i];
      ref_linear<<<blocks(2 * s.mlp), 256>>>(n, m.gate_up[l] + e * 2 * s.mlp * s.width, nullptr, s.width,
                                             2 * s.mlp, y);
      ref_gate<<<wide(s.mlp), 256>>>(y, float(std::exp(scores[e] - scores[order[0]]) / sum), h, s.mlp);
      ref_linear<<<blocks(s.width), 256>>>(h, m.down[l] + e * s.width * s.mlp, nullptr, s.mlp, s.width, y);
      ref_add<<<wide(s.width), 256>>>(y, total, s.width);
    }
    ref_residual<<<wide(s.width), 256>>>(total, x, s.width);
  }
  ref_norm<<<1, 256>>>(x, m.norm, kEps, s.width, n);
  ref_linear<<<blocks(s.vocabulary), 256>>>(n, m.head, nullptr, s.width, s.vocabulary, m.ref_logits);
  CHECK(cudaDeviceSynchronize());
}

template <class T>
double difference(const T* a, const T* b, size_t n) {
  std::vector<T> x(n), y(n);
  CHECK(cudaMemcpy(x.data(), a, n * sizeof(T), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(y.data(), b, n * sizeof(T), cudaMemcpyDeviceToHost));
  double d = 0, sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const double u = float(x[i]), v = float(y[i]);
    d += (u - v) * (u - v), sum += v * v;
  }
  return std::isnan(d) ? 1e9 : std::sqrt(d / sum);
}

int failures = 0;
void check(const char* name, TokenShape s, Options o, std::vector<int> positions, int repeats = 4) {
  Model m = make(s, o);
  const size_t kv = size_t(s.kv_heads) * s.head_dim;
  for (int l = 0; l < s.layers; ++l) {
    CHECK(cudaMemcpy(m.ref_keys[l], m.keys[l], s.capacity * kv * 2, cudaMemcpyDeviceToDevice));
    CHECK(cudaMemcpy(m.ref_values[l], m.values[l], s.capacity * kv * 2, cudaMemcpyDeviceToDevice));
  }
  double worst = 0, worst_cache = 0;
  bool same = true;
  for (int position : positions) {
    set_position(m, position);
    reference(m, position);
    std::vector<float> got(s.vocabulary), first;
    for (int i = 0; i < repeats; ++i) {
      for (int l = 0; l < s.layers; ++l) {  // what lies behind the keys must not matter
        CHECK(cudaMemset(m.keys[l] + position * kv, 0xff, (s.capacity - position) * kv * 2));
        CHECK(cudaMemset(m.values[l] + position * kv, 0xff, (s.capacity - position) * kv * 2));
      }
      CHECK(cudaMemset(m.logits, 0xff, s.vocabulary * 4));
      run(m, 0);
      const cudaError_t e = cudaDeviceSynchronize();
      if (e != cudaSuccess)
        std::printf("%s position %d: %s\n", name, position, cudaGetErrorString(e)), std::exit(1);
      CHECK(cudaMemcpy(got.data(), m.logits, s.vocabulary * 4, cudaMemcpyDeviceToHost));
      if (i == 0) first = got;
      same = same && std::memcmp(first.data(), got.data(), got.size() * 4) == 0;
    }
    worst = std::max(worst, difference(m.logits, m.ref_logits, s.vocabulary));
    for (int l = 0; l < s.layers; ++l) {
      if (position >= s.capacity) break;
      worst_cache =
          std::max({worst_cache, difference(m.keys[l] + position * kv, m.ref_keys[l] + position * kv, kv),
                    difference(m.values[l] + position * kv, m.ref_values[l] + position * kv, kv)});
      for (auto [to, from] : {std::pair{m.keys[l], m.ref_keys[l]}, std::pair{m.values[l], m.ref_values[l]}})
        CHECK(cudaMemcpy(to, from, s.capacity * kv * 2, cudaMemcpyDeviceToDevice));
    }
  }
  const bool ok = worst < 2e-2 && worst_cache < 2e-2 && same;
  failures += !ok;
  std::printf("%-28s layers %d: logits %.2e, cache %.2e, repeats %s  %s\n", name, s.layers, worst,
              worst_cache, same ? "equal" : "DIFFER", ok ? "ok" : "FAIL");
  std::fflush(stdout);
  release();
}

TokenShape published(const std::string& name, int layers) {
  TokenShape s{32, 4096, 11008, 32, 32, 128, 32000, 0, 0, 1280};
  if (name == "llama-3.2-1b") s = {16, 2048, 8192, 32, 8, 64, 128256, 0, 0, 1280};
  if (name == "qwen3-8b") s = {36, 4096, 12288, 32, 8, 128, 151936, 0, 0, 1280};
  if (name == "llama-3-8b") s = {32, 4096, 14336, 32, 8, 128, 128256, 0, 0, 1280};
  if (name == "qwen3-30b-a3b") s = {48, 2048, 768, 32, 4, 128, 151936, 128, 8, 1280};
  if (layers > 0) s.layers = layers, s.vocabulary = 4096;
  return s;
}

double floor_ms(const TokenShape& s, int position) {
  const double attended = double(s.heads) * s.head_dim, kv = double(s.kv_heads) * s.head_dim, w = s.width;
  const double layer = (attended + 2 * kv) * w + attended * w + double(s.experts) * w +
                       3. * std::max(s.used, 1) * s.mlp * w + 2. * position * kv;
  return (s.layers * layer + double(s.vocabulary) * w) * 2 / 4.6e9;
}

// Per product, medians over layers 1 …, in ns: when the first and the last block end, and how long after the
// last one of the product before it a vector is there. "block": over blocks, the latest warp of each.
void trace(const Model& m) {
#ifdef FLASHRT_STACK_TRACE
  const int layers = m.s.layers + 1, blocks = int(m.launch.grid), works = kTokenWorks + 1;
  std::vector<unsigned long long> t(size_t(blocks) * layers * works * 16);
  CHECK(cudaMemcpy(t.data(), m.params.trace, t.size() * 8, cudaMemcpyDeviceToHost));
  unsigned long long origin = ~0ull;
  for (unsigned long long v : t)
    if (v != 0) origin = std::min(origin, v - 1);
  const auto at = [&](int b, int l, int w, int slot) {
    const unsigned long long v = t[((size_t(b) * layers + l) * works + w) * 16 + slot];
    return v == 0 ? 0. : double(v - origin);
  };
  const auto over = [&](int l, int w, int slot, double q) {  // quantile over blocks; slot −1: the latest warp
    std::vector<double> v;
    for (int b = 0; b < blocks; ++b) {
      double x = 0;
      if (slot >= 0)
        x = at(b, l, w, slot);
      else
        for (int i = 0; i < 8; ++i) x = std::max(x, at(b, l, w, i));
      if (x > 0) v.push_back(x);
    }
    if (v.empty()) return 0.;
    std::sort(v.begin(), v.end());
    return v[size_t(q * (v.size() - 1))];
  };
  const auto median = [&](auto&& f) {
    std::vector<double> v;
    for (int l = 1; l + 1 < layers; ++l) v.push_back(f(l));
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
  };
  static const int kOrder[] = {kTokenQkv, kTokenWorks, kTokenOut, kTokenRouter, kTokenGateUp, kTokenDown};
  static const char* kNames[] = {"qkv", "attention", "out", "router", "gate-up", "down"};
  std::printf("  %-10s %34s | %26s | %s\n", "ns", "after the last end before: asked",
              "staged, median (first, last)", "ends: warp spread, blocks 10 %, 50 %, 90 %, last");
  for (int k = 0; k < 6; ++k) {
    const int w = kOrder[k];
    if (over(1, w, -1, 1.) == 0) continue;
    int before = k;
    do before = (before + 5) % 6;
    while (over(1, kOrder[before], -1, 1.) == 0);
    const auto from = [&](int l) { return over(k == 0 ? l - 1 : l, kOrder[before], -1, 1.); };
    const auto since = [&](int slot, double q) {
      return median([&](int l) { return l < 2 ? 0 : over(l, w, slot, q) - from(l); });
    };
    const double spread = median([&](int l) {
      std::vector<double> v;
      for (int b = 0; b < blocks; ++b) {
        double lo = 1e30, hi = 0;
        for (int i = 0; i < 8; ++i) lo = std::min(lo, at(b, l, w, i)), hi = std::max(hi, at(b, l, w, i));
        v.push_back(hi - lo);
      }
      std::sort(v.begin(), v.end());
      return v[v.size() / 2];
    });
    std::printf(
        "  %-10s asked %6.0f fetched %6.0f (first %6.0f last %6.0f) | %6.0f (%6.0f, %6.0f) | %6.0f, %6.0f "
        "%6.0f %6.0f %6.0f\n",
        kNames[k], since(9, .5), since(10, .5), since(10, 0.), since(10, 1.), since(11, .5), since(11, 0.),
        since(11, 1.), spread, since(-1, .1), since(-1, .5), since(-1, .9), since(-1, 1.));
  }
  for (int w : {int(kTokenGateUp), int(kTokenDown)}) {  // whether some blocks are always late
    std::vector<std::pair<double, int>> late;
    for (int b = 0; b < blocks; ++b) {
      double sum = 0;
      for (int l = 1; l + 1 < layers; ++l) {
        double end = 0;
        for (int i = 0; i < 8; ++i) end = std::max(end, at(b, l, w, i));
        sum += end - over(l, w, -1, .5);
      }
      late.push_back({sum / (layers - 2), b});
    }
    std::sort(late.begin(), late.end());
    std::printf("  mean lateness of a block's end, %s:", w == kTokenDown ? "down" : "gate-up");
    for (double q : {0., .1, .25, .5, .75, .9, .95, 1.}) {
      const auto& [ns, b] = late[size_t(q * (blocks - 1))];
      std::printf(" %.0f (%d)", ns, b);
    }
    std::printf("\n");
  }
#else
  (void)m;
#endif
}

// variants: loads in flight, pace, stages ahead
void time(const std::string& name, int position, const std::vector<int>& variants) {
  Model m = make(published(name, 0), {.head_norms = name[0] == 'q'});
  set_position(m, position);
  cudaStream_t s;
  CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  cudaEvent_t a, b;
  cudaEventCreate(&a), cudaEventCreate(&b);
  CHECK(cudaDeviceSynchronize());
  const double floor = floor_ms(m.s, position);
  for (size_t v = 0; v == 0 || v + 2 < variants.size(); v += 3) {
    if (!variants.empty())
      m.params.in_flight = variants[v], m.params.pace = variants[v + 1], m.params.ahead = variants[v + 2];
    std::vector<float> ms;
    for (int i = 0; i < 25; ++i) {
      cudaEventRecord(a, s), run(m, s), cudaEventRecord(b, s);
      CHECK(cudaStreamSynchronize(s));
      float t;
      cudaEventElapsedTime(&t, a, b);
      if (i >= 5) ms.push_back(t);
    }
    std::sort(ms.begin(), ms.end());
    std::printf(
        "%s position %d slots %d in flight %2d pace %3d ahead %2d: %.4f ms (min %.4f, max %.4f), floor %.3f: "
        "%.1f %%\n",
        name.c_str(), position, m.params.slots, m.params.in_flight, m.params.pace, m.params.ahead, ms[10],
        ms[0], ms.back(), floor, floor / ms[10] * 100);
    std::fflush(stdout);
  }
  trace(m);
  release();
}

__global__ void timer_steps(unsigned long long* out) {
  unsigned long long last = 0, now, c0 = clock64();
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(last));
  const unsigned long long first = last;
  int n = 0;
  while (n < 64) {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    if (now != last) last = now, ++n;
  }
  out[0] = (last - first) / 64, out[1] = last - first, out[2] = clock64() - c0;
}

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "check";
  if (what == "timer") {
    auto* out = room<unsigned long long>(3);
    unsigned long long host[3];
    timer_steps<<<1, 1>>>(out);
    CHECK(cudaMemcpy(host, out, 24, cudaMemcpyDeviceToHost));
    std::printf("globaltimer step %llu ns; %llu ns are %llu clocks\n", host[0], host[1], host[2]);
    return 0;
  }
  if (what == "time") {
    std::vector<int> variants;
    for (int i = 4; i < argc; ++i) variants.push_back(std::atoi(argv[i]));
    time(argv[2], argc > 3 ? std::atoi(argv[3]) : 640, variants);
    return 0;
  }
  const TokenShape tiny{3, 256, 520, 4, 2, 64, 514, 0, 0, 200},
      tiny128{2, 384, 264, 8, 1, 128, 512, 0, 0, 100}, tiny_experts{3, 256, 64, 4, 2, 64, 512, 16, 4, 96};
  check("tiny", tiny, {.bias = true}, {0, 1, 70, 199, 3});
  check("tiny 128", tiny128, {.head_norms = true, .embedding = true, .window = 20}, {0, 19, 20, 50, 99});
  check("tiny experts", tiny_experts, {.head_norms = true}, {0, 17, 95});
  if (what == "small") return failures != 0;
  check("llama-2-7b", published("llama-2-7b", 3), {}, {0, 640, 5, 1279});
  check("llama-3.2-1b", published("llama-3.2-1b", 3), {.window = 300}, {640, 1, 1279});
  check("qwen3-8b", published("qwen3-8b", 2), {.head_norms = true}, {640, 33, 1279});
  check("llama-3-8b", published("llama-3-8b", 2), {.bias = true}, {640, 128});
  check("qwen3-30b-a3b", published("qwen3-30b-a3b", 2), {.head_norms = true}, {640, 31, 1279});
  std::printf("%d failures\n", failures);
  return failures != 0;
}
