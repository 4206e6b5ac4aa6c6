// Timing half of bench_stream.cu: cold streaming rates and the chain of 180 expert layers.

// Median time of one graph launch, in µs.
double time_graph(cudaGraphExec_t exec, cudaStream_t stream, int repeats) {
  cudaEvent_t a, b;
  CHECK(cudaEventCreate(&a));
  CHECK(cudaEventCreate(&b));
  std::vector<float> ms(repeats);
  for (int i = 0; i < 3; ++i) CHECK(cudaGraphLaunch(exec, stream));
  for (float& t : ms) {
    CHECK(cudaEventRecord(a, stream));
    CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaEventRecord(b, stream));
    CHECK(cudaEventSynchronize(b));
    CHECK(cudaEventElapsedTime(&t, a, b));
  }
  std::sort(ms.begin(), ms.end());
  CHECK(cudaEventDestroy(a));
  CHECK(cudaEventDestroy(b));
  return ms[repeats / 2] * 1e3;
}

cudaGraphExec_t capture(cudaStream_t stream, const std::function<void()>& body) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  body();
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  CHECK(cudaGraphDestroy(graph));
  return exec;
}

void rate() {
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  struct Shape {
    int n, k, m;
    StreamEpilogue e;
  };
  using E = StreamEpilogue;
  std::vector<Shape> shapes;
  for (int m : {10, 50}) {
    shapes.push_back({2560, 1024, m, E::plain});
    shapes.push_back({1024, 2048, m, E::residual});
    shapes.push_back({8192, 1024, m, E::pair});
    shapes.push_back({1024, 4096, m, E::residual});
  }
  for (int m : {1, 8, 16})
    for (auto [n, k, e] : {std::tuple{6144, 4096, E::plain},
                           {4096, 4096, E::residual},
                           {24576, 4096, E::pair},
                           {12288, 4096, E::plain},
                           {4096, 12288, E::residual},
                           {22016, 4096, E::pair},
                           {4096, 11008, E::residual},
                           {151936, 4096, E::plain}})
      shapes.push_back({n, k, m, e});
  std::printf("rate: weights cold (rotated over > 600 MB), PDL back to back; plain = without PDL\n");
  std::printf("%7s %6s %3s | %-26s | %8s %6s %5s | %8s\n", "n", "k", "m", "tactic", "us", "TB/s", "%4.6",
              "plain us");
  const size_t pool = 1300ull << 20;
  bf16* weights = make<bf16>(pool / 2, 99, .02f);
  for (const Shape& s : shapes) {
    Case c{s.m, s.n, s.k, s.e, s.e == E::pair ? StreamActivation::silu : StreamActivation::none, 0};
    const size_t bytes = size_t(s.n) * s.k * 2;
    LinearStreamParams p{};
    p.m = s.m, p.n = s.n, p.k = s.k, p.epilogue = s.e, p.activation = c.activation, p.eps = 1e-6f;
    bf16* x = make<bf16>(size_t(s.m) * s.k, 5, 1.f);
    bf16* y = make<bf16>(size_t(s.m) * s.n, 6, 1.f);
    p.x_rows = x, p.y = y, p.residual = y;
    std::vector<StreamTactic> list = {choose_stream_tactic(p, g_sms)};
    for (int splits : {1, 2, 4, 8})
      for (int groups : {1, 2}) {
        StreamTactic t = list[0];
        t.splits = splits, t.row_groups = groups;
        if (groups == 2 && t.rows == 8) t.rows = 16;
        const int tiles = stream_tiles(p, groups);
        const bool one_wave = tiles * splits <= 2 * g_sms;
        t.clusters = one_wave ? tiles : std::min(tiles, g_sms / splits);
        t.stages = (one_wave ? 12 : 20) / groups;
        while (t.stages > 2 && plan_linear_stream(p, weights, t, g_encode).error) --t.stages;
        t.trigger = t.stages;
        if (tiles * splits >= 60) list.push_back(t);
      }
    const int sets =
        std::max<int>(1, std::min<size_t>(pool / bytes, std::max<size_t>(3, (700ull << 20) / bytes)));
    for (size_t i = 0; i < list.size(); ++i) {
      std::vector<StreamLaunch> launches;
      for (int w = 0; w < sets; ++w)
        launches.push_back(plan_linear_stream(p, weights + w * (bytes / 2), list[i], g_encode));
      if (launches[0].error) continue;
      auto exec = capture(stream, [&] {
        for (auto& l : launches) launch(l, stream);
      });
      const double us = time_graph(exec, stream, 7) / sets;
      CHECK(cudaGraphExecDestroy(exec));
      auto apart = capture(stream, [&] {
        for (auto& l : launches) launch(l, stream, false);
      });
      const double alone = time_graph(apart, stream, 3) / sets;
      CHECK(cudaGraphExecDestroy(apart));
      char name[64];
      std::snprintf(name, sizeof name, "%sn%d r%d S%d C%d st%d", i ? "" : "*", list[i].rows,
                    list[i].row_groups, list[i].splits, list[i].clusters, list[i].stages);
      std::printf("%7d %6d %3d | %-26s | %8.2f %6.2f %5.1f | %8.2f\n", s.n, s.k, s.m, name, us,
                  bytes / us * 1e-6, bytes / us * 1e-6 / 4.6 * 100, alone);
    }
    CHECK(cudaFree(x));
    CHECK(cudaFree(y));
  }
  CHECK(cudaFree(weights));
}

// Cycles of 64 wgmmas with `Chains` independent accumulators per warpgroup.
template <int N, int Chains>
__global__ void __launch_bounds__(256) mma_cycles(long long* out) {
  extern __shared__ __align__(1024) uint8_t smem[];
  for (int i = threadIdx.x; i < 100 * 256; i += blockDim.x)
    reinterpret_cast<uint32_t*>(smem)[i] = 0x3c003c00u + i;
  fence_proxy_async();
  __syncthreads();
  float d[Chains][N / 2];
  for (auto& c : d)
    for (float& v : c) v = 0.f;
  const uint64_t a = descriptor_k_major(smem_u32(smem)), b = descriptor_k_major(smem_u32(smem + 65536));
  for (int repeat = 0; repeat < 3; ++repeat) {
    __syncthreads();
    const long long start = clock64();
    for (int c = 0; c < Chains; ++c) wgmma_pin(d[c]);
    wgmma_fence();
#pragma unroll 1
    for (int kb = 0; kb < 16; ++kb) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        wgmma_ss<N>(d[i % Chains], a + (kb % 8) * 512 + i * kDescriptorNextK, b + i * kDescriptorNextK, 1);
      wgmma_commit();
      wgmma_wait<1>();
    }
    wgmma_wait<0>();
    for (int c = 0; c < Chains; ++c) wgmma_pin(d[c]);
    if (threadIdx.x % 128 == 0) out[threadIdx.x / 128] = clock64() - start;
  }
  float s = 0;
  for (auto& c : d)
    for (float v : c) s += v;
  if (s == 1.2345f) out[5] = 1;
}

template <int N, int Chains>
void mma_line() {
  long long *out, got[2];
  CHECK(cudaMalloc(&out, 64));
  CHECK(cudaFuncSetAttribute(mma_cycles<N, Chains>, cudaFuncAttributeMaxDynamicSharedMemorySize, 110 * 1024));
  for (int threads : {128, 256}) {
    mma_cycles<N, Chains><<<1, threads, 100 * 1024>>>(out);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(got, out, 16, cudaMemcpyDeviceToHost));
    std::printf("  64 wgmma n%-2d, %d chains, %d warpgroups: %lld cycles\n", N, Chains, threads / 128,
                got[0]);
  }
  CHECK(cudaFree(out));
}
void mma_rate() {
  for (unsigned cluster : {2, 4, 8})
    for (unsigned shared : {40u, 86u, 150u}) {
      cudaLaunchConfig_t config = {};
      cudaLaunchAttribute attribute;
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim.x = cluster, attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
      config.gridDim = 1024, config.blockDim = 288, config.dynamicSmemBytes = shared * 1024;
      config.attrs = &attribute, config.numAttrs = 1;
      int count = 0;
      CHECK(cudaOccupancyMaxActiveClusters(&count, kKernels.at("linear_stream_residual_n16_r1"), &config));
      std::printf("  clusters of %u with %u KB per block: %d at once\n", cluster, shared, count);
    }
  mma_line<8, 1>(), mma_line<8, 4>(), mma_line<16, 1>(), mma_line<16, 2>(), mma_line<16, 4>(),
      mma_line<56, 1>(), mma_line<56, 2>();
}

// Stands in for attention: depends on q and on the newest keys, writes [m, 2048], lasts about `cycles`.
__global__ void __launch_bounds__(128)
    attention_stand_in(const bf16* q, const bf16* k, const int* position, bf16* out, int count, int cycles) {
  pdl_launch();
  pdl_wait();
  const long long start = clock64();
  const int i = blockIdx.x * 128 + threadIdx.x;
  for (int j = i; j < count; j += gridDim.x * 128)
    out[j] = bf16(float(q[j]) + .25f * float(k[*position * 256 + j % 256]));
  while (clock64() - start < cycles) {
  }
}

struct ChainPlan {
  StreamTactic tactic[4];
  int attention_cycles = 3200;
  int attention_shared = 64 * 1024;
  bool pdl = true;
  bool use[5] = {true, true, true, true, true};  // qkv, attention, o, gate-up, down
  bool stat = true;
};

struct Chain {
  static constexpr int kLayers = 18, kSteps = 10, kWidth = 1024, kContext = 762;
  int m;
  bf16 *qkv, *o, *gate_up, *down;
  float* vectors;  // [step·layer][scale, shift, gate, scale, shift, gate][1024]
  bf16 *x0, *x, *q, *k_cache, *v_cache, *attention, *hidden;
  float* stat;
  int* position;
  float2* rope;

  explicit Chain(int rows) : m(rows) {
    qkv = make<bf16>(size_t(kLayers) * 2560 * 1024, 1, .03f);
    o = make<bf16>(size_t(kLayers) * 1024 * 2048, 2, .02f);
    gate_up = make<bf16>(size_t(kLayers) * 8192 * 1024, 3, .03f);
    down = make<bf16>(size_t(kLayers) * 1024 * 4096, 4, .02f);
    vectors = make<float>(size_t(kLayers) * kSteps * 6 * kWidth, 5, .2f);
    x0 = make<bf16>(m * kWidth, 6, 1.f);
    x = make<bf16>(m * kWidth, 6, 1.f);
    q = make<bf16>(m * 2048, 7, 0.f);
    k_cache = make<bf16>(size_t(kLayers) * (kContext + m) * 256, 8, 0.f);
    v_cache = make<bf16>(size_t(kLayers) * (kContext + m) * 256, 9, 0.f);
    attention = make<bf16>(m * 2048, 10, 0.f);
    hidden = make<bf16>(m * 4096, 11, 0.f);
    stat = make<float>(m * 32, 12, 0.f);
    rope = reinterpret_cast<float2*>(make<float>(size_t(kContext + m) * 256, 13, .7f));
    CHECK(cudaMalloc(&position, 4));
    CHECK(cudaMemcpy(position, &kContext, 4, cudaMemcpyHostToDevice));
    CHECK(cudaDeviceSynchronize());
  }

  LinearStreamParams problem(int which, int step, int layer) const {
    LinearStreamParams p{};
    const float* v = vectors + size_t(step * kLayers + layer) * 6 * kWidth;
    p.m = m, p.eps = 1e-6f;
    if (which == 0 || which == 2) {
      p.x_rows = x, p.k = kWidth;
      p.norm_scale = v + (which ? 3 : 0) * kWidth, p.norm_shift = p.norm_scale + kWidth;
    }
    if (which == 0) {
      p.n = 2560, p.epilogue = StreamEpilogue::qkv, p.q_heads = 8, p.kv_heads = 1, p.head_dim = 256;
      p.position = position, p.rope = rope, p.y = q;
      p.k_cache = k_cache + size_t(layer) * (kContext + m) * 256;
      p.v_cache = v_cache + size_t(layer) * (kContext + m) * 256;
    } else if (which == 2) {
      p.n = 8192, p.epilogue = StreamEpilogue::pair, p.activation = StreamActivation::gelu_tanh, p.y = hidden;
    } else {
      p.n = kWidth, p.k = which == 1 ? 2048 : 4096, p.epilogue = StreamEpilogue::residual;
      p.x_rows = which == 1 ? attention : hidden;
      p.residual = x, p.y = x, p.gate = v + (which == 1 ? 2 : 5) * kWidth;
    }
    return p;
  }
  const bf16* weights(int which, int layer) const {
    const bf16* base[] = {qkv, o, gate_up, down};
    const size_t size[] = {2560 * 1024, 1024 * 2048, 8192 * 1024, 1024 * 4096};
    return base[which] + layer * size[which];
  }

  std::vector<bf16> output() const { return download(x, m * kWidth); }
  void reset() const { CHECK(cudaMemcpy(x, x0, m * kWidth * 2, cudaMemcpyDeviceToDevice)); }

  // µs per layer; `result` receives x after one run from x0.
  double run(const ChainPlan& plan, std::vector<bf16>* result = nullptr, int repeats = 9) const {
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaFuncSetAttribute(attention_stand_in, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               plan.attention_shared));
    CHECK(cudaFuncSetAttribute(attention_stand_in, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
    bool ok = true;
    auto exec = capture(stream, [&] {
      for (int step = 0; step < kSteps; ++step)
        for (int layer = 0; layer < kLayers; ++layer)
          for (int kernel = 0; kernel < 5; ++kernel) {
            if (!plan.use[kernel]) continue;
            if (kernel == 1) {
              const bf16* k = k_cache + size_t(layer) * (kContext + m) * 256;
              int count = m * 2048, cycles = plan.attention_cycles;
              void* args[] = {(void*)&q, (void*)&k, (void*)&position, (void*)&attention, &count, &cycles};
              launch_kernel((const void*)attention_stand_in, 128, 1, 128, plan.attention_shared, args,
                            plan.pdl, stream);
              continue;
            }
            const int which = kernel - (kernel > 1);
            LinearStreamParams p = problem(which, step, layer);
            const bool produces = which == 1 || which == 3;
            // The producing tactic must have 16 slots, and the very first kernel has no producer.
            if (plan.stat && produces) p.stat_out = stat;
            if (plan.stat && !produces && step + layer + which > 0 && plan.use[2] && plan.use[4])
              p.row_stat = stat, p.row_stat_slots = 16;
            const StreamLaunch l = plan_linear_stream(p, weights(which, layer), plan.tactic[which], g_encode);
            if (l.error) {
              ok = false;
              continue;
            }
            launch(l, stream, plan.pdl);
          }
    });
    double us = -1;
    if (ok) {
      reset();
      CHECK(cudaGraphLaunch(exec, stream));
      CHECK(cudaStreamSynchronize(stream));
      if (result) *result = output();
      us = time_graph(exec, stream, repeats) / (kLayers * kSteps);
    }
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaStreamDestroy(stream));
    return us;
  }
};

StreamTactic tactic(int rows, int row_groups, int splits, int clusters, int stages, int trigger) {
  return {rows, row_groups, splits, clusters, stages, trigger};
}

std::string name_of(const StreamTactic& t) {
  char s[64];
  std::snprintf(s, sizeof s, "r%d S%d C%d st%d tr%d", t.row_groups, t.splits, t.clusters, t.stages,
                t.trigger);
  return s;
}

#ifndef CHAIN_VARIANTS
#define CHAIN_VARIANTS "bench_stream_variants.h"
#endif
#include CHAIN_VARIANTS

int chain() {
  int failures = 0;
  for (int m : {10, 50}) {
    Chain c(m);
    ChainPlan base;
    const int rows = m <= 16 ? 16 : 56;
    std::vector<StreamTactic> variants[4];
    chain_variants(m, rows, variants);
    for (int w = 0; w < 4; ++w) base.tactic[w] = variants[w][0];
    std::vector<bf16> want, got;
    ChainPlan plain = base;
    plain.pdl = false;
    const double us_plain = c.run(plain, &want);
    const double us = c.run(base, &got);
    bool finite = true;
    double largest = 0;
    for (bf16 v : got)
      finite = finite && std::isfinite(float(v)), largest = std::max(largest, std::fabs(double(float(v))));
    const bool same = want.size() == got.size() && std::memcmp(want.data(), got.data(), got.size() * 2) == 0;
    failures += !same || !finite;
    std::printf("chain m=%d: PDL %.2f us/layer, plain graph %.2f us/layer; outputs %s%s, max |x| %.1f\n", m,
                us, us_plain, same ? "bit-identical" : "DIFFER", finite ? "" : " NOT FINITE", largest);
    const char* kernels[] = {"qkv", "attention", "o", "gate-up", "down"};
    for (int k = 0; k < 5; ++k) {
      ChainPlan p = base;
      p.use[k] = false;
      std::printf("  without %-9s %.2f\n", kernels[k], c.run(p));
      ChainPlan only = base;
      for (int j = 0; j < 5; ++j) only.use[j] = j == k;
      std::printf("  only    %-9s %.2f\n", kernels[k], c.run(only));
    }
    for (int cycles : {0, 1600, 6400}) {
      ChainPlan p = base;
      p.attention_cycles = cycles;
      std::printf("  attention of %d cycles: %.2f\n", cycles, c.run(p));
    }
    {
      ChainPlan p = base;
      p.stat = false;
      std::printf("  statistic recomputed: %.2f\n", c.run(p));
      p = base;
      p.attention_shared = 16 * 1024;
      std::printf("  attention with 16 KB: %.2f\n", c.run(p));
      p.attention_shared = 110 * 1024;
      std::printf("  attention with 110 KB: %.2f\n", c.run(p));
    }
    // Every combination of the variants, the best ten printed.
    std::vector<std::pair<double, std::string>> results;
    ChainPlan p = base;
    for (int shared : {64})
      for (const auto& t0 : variants[0])
        for (const auto& t1 : variants[1])
          for (const auto& t2 : variants[2])
            for (const auto& t3 : variants[3]) {
              p.tactic[0] = t0, p.tactic[1] = t1, p.tactic[2] = t2, p.tactic[3] = t3;
              p.attention_shared = shared * 1024;
              const double us = c.run(p, nullptr, 3);
              if (us > 0)
                results.push_back({us, std::to_string(shared) + " KB | " + name_of(t0) + " | " + name_of(t1) +
                                           " | " + name_of(t2) + " | " + name_of(t3)});
            }
    std::sort(results.begin(), results.end());
    for (size_t i = 0; i < results.size() && i < 14; ++i)
      std::printf("  %.2f  %s\n", results[i].first, results[i].second.c_str());
    std::printf("  %.2f  worst: %s\n", results.back().first, results.back().second.c_str());
  }
  return failures;
}
