// Checks and times the linears of packed weights on the device: each against the CPU's values, then a chain
// of dependent launches over matrices that no cache holds.
//
//   g++ -std=c++20 -O2 -I src -I $CUDA/include tools/bench_packed.cpp
//   src/cuda/{packed_layout,linear_packed}.cpp
//     src/quant/packed.cpp src/tape/{program,reference,plan}.cpp src/ops/{linear,matmul,…}.cpp
//     src/base/threads.cpp -lfmt -lcudart_static …
//   bench_packed FATBIN [check | time]
#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include "cuda/linear_packed.h"
#include "cuda/packed_layout.h"
#include "ops/linear.h"

using namespace flashrt;

namespace {

void checked(cudaError_t code) {
  if (code == cudaSuccess) return;
  fmt::print(stderr, "CUDA: {}\n", cudaGetErrorString(code));
  std::exit(1);
}

cudaLibrary_t g_library;
cudaKernel_t kernel_of(const std::string& name) {
  static std::map<std::string, cudaKernel_t> known;
  cudaKernel_t& kernel = known[name];
  if (kernel == nullptr) {
    checked(cudaLibraryGetKernel(&kernel, g_library, name.c_str()));
    checked(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, 226 * 1024));
  }
  return kernel;
}

void launch(const cuda::Launch& l, cudaStream_t stream) {
  cudaLaunchAttribute attribute{.id = cudaLaunchAttributeProgrammaticStreamSerialization};
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{
      .gridDim = l.grid, .blockDim = l.block, .dynamicSmemBytes = l.shared_bytes, .stream = stream};
  config.attrs = &attribute, config.numAttrs = 1;
  void* arguments[] = {const_cast<std::byte*>(l.params.data())};
  checked(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel_of(l.kernel)), arguments));
}

// A period that no matrix's width divides is enough.
std::vector<float> normals(int64_t n, uint32_t seed, float scale) {
  constexpr int64_t kPeriod = 1000003;
  std::vector<float> values(static_cast<size_t>(n));
  std::minstd_rand random(seed + 1);
  for (int64_t i = 0; i < n; ++i) {
    if (i >= kPeriod) {
      values[size_t(i)] = values[size_t(i - kPeriod)];
      continue;
    }
    float sum = -6;
    for (int j = 0; j < 12; ++j) sum += float(random() & 0xffff) / 65536;
    values[size_t(i)] = bf16_to_f32(f32_to_bf16(scale * sum));
  }
  return values;
}

struct Shape4 {
  int64_t m, n, k;
  bool pair = false, norm = false, residual = false, bias = false;
};

// A line on the tape and its operands on the device.
struct Bench {
  Program program{DType::bf16};
  Shape4 s;
  Weight weight;
  std::vector<float> x, residual, bias, norm_scale;
  std::vector<void*> address;
  cuda::Device device{.sm = 90, .processors = 132, .shared_bytes = 227 * 1024};

  Bench(Shape4 shape, quant::Format format, const std::vector<float>& values) : s(shape) {
    const auto packed = std::make_shared<const quant::Packed>(quant::encode(
        format, s.n, s.k, [&](int64_t r, float* out) { std::copy_n(values.begin() + r * s.k, s.k, out); },
        "w"));
    weight = {.name = "w", .shape = {s.n, s.k}};
    weight.parts = {{.data = packed->codes,
                     .dtype = DType::u8,
                     .rows = s.n,
                     .stride = packed->code_stride,
                     .packed = packed}};
    const int64_t width = s.pair ? s.n / 2 : s.n;
    std::vector<Tensor> in(kLinearOperands);
    in[kX] = program.input("x", {s.m, s.k}, DType::bf16);
    in[kW] = program.weight(weight);
    x = normals(s.m * s.k, 1, 1);
    if (s.residual)
      in[kResidual] = program.input("r", {s.m, width}, DType::bf16), residual = normals(s.m * width, 2, 1);
    if (s.bias) bias = normals(s.n, 3, 1), in[kBias] = program.constant("b", {1, s.n}, bias);
    if (s.norm)
      norm_scale = normals(s.k, 4, 0.2f), in[kNormScale] = program.constant("s", {1, s.k}, norm_scale);
    const LinearAttrs attrs{.norm = {.kind = s.norm ? NormKind::rms : NormKind::none},
                            .activation = s.pair ? Activation::swiglu : Activation::none};
    program.record(kLinearOp, in, {program.temp({s.m, width}, DType::bf16)}, attrs, At{});
    address.assign(program.tensors.size(), nullptr);
    const Line& line = program.lines[0];
    const auto put = [&](int id, const std::vector<float>& v, DType type) {
      if (id < 0) return;
      std::vector<std::byte> bytes(v.size() * size_of(type));
      for (size_t i = 0; i < v.size(); ++i) store_float(bytes.data(), type, i, v[i]);
      checked(cudaMalloc(&address[size_t(id)], bytes.size() + 256));
      checked(cudaMemcpy(address[size_t(id)], bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    };
    put(line.in[kX], x, DType::bf16), put(line.input(kResidual), residual, DType::bf16);
    put(line.input(kBias), bias, DType::f32), put(line.input(kNormScale), norm_scale, DType::f32);
    checked(cudaMalloc(&address[size_t(line.out[0])], size_t(s.m * width * 2)));
    const cuda::PackedLayout l = cuda::packed_layout(weight);
    std::vector<std::byte> host(l.bytes);
    cuda::pack_tiles(weight, l, 0, l.tiles, host.data());
    cuda::pack_row_scales(weight, l, host.data() + l.row_scale_at);
    bytes = l.bytes;
    packed_host = std::move(host);
  }
  ~Bench() {
    for (void* p : address) cudaFree(p);
  }
  size_t bytes = 0;
  std::vector<std::byte> packed_host;

  cuda::Launch made(void* memory) {
    address[size_t(program.lines[0].in[kW])] = memory;
    const cuda::Problem problem{
        .program = program, .line = program.lines[0], .device = device, .address = address};
    std::vector<cuda::Launch> launches;
    if (!cuda::fits_linear_packed(problem)) return {};
    cuda::launch_linear_packed(problem, launches);
    return launches[0];
  }

  // max |got − want| in units of 2⁻⁸ · max(|want|, rms)
  double check() {
    void* memory = nullptr;
    checked(cudaMalloc(&memory, bytes));
    checked(cudaMemcpy(memory, packed_host.data(), bytes, cudaMemcpyHostToDevice));
    launch(made(memory), nullptr);
    checked(cudaDeviceSynchronize());
    const int64_t width = s.pair ? s.n / 2 : s.n;
    std::vector<uint16_t> got(size_t(s.m * width));
    checked(cudaMemcpy(got.data(), address[size_t(program.lines[0].out[0])], got.size() * 2,
                       cudaMemcpyDeviceToHost));
    checked(cudaFree(memory));
    std::vector<float> w(size_t(s.n * s.k)), want(got.size());
    quant::decode(*weight.parts[0].packed, 0, s.n, w.data());
    double squares = 0;
    for (int64_t r = 0; r < s.m; ++r) {
      double rstd = 1;
      if (s.norm) {
        double sum = 0;
        for (int64_t c = 0; c < s.k; ++c) sum += double(x[size_t(r * s.k + c)]) * x[size_t(r * s.k + c)];
        rstd = 1 / std::sqrt(sum / double(s.k) + 1e-6);
      }
      const auto product = [&](int64_t row) {
        double sum = 0;
        for (int64_t c = 0; c < s.k; ++c) {
          sum += w[size_t(row * s.k + c)] * double(x[size_t(r * s.k + c)]) *
                 (s.norm ? 1. + norm_scale[size_t(c)] : 1.);
        }
        return sum * rstd + (s.bias ? bias[size_t(row)] : 0);
      };
      for (int64_t c = 0; c < width; ++c) {
        double v = product(c);
        if (s.pair) v = v / (1 + std::exp(-v)) * product(width + c);
        if (s.residual) v += residual[size_t(r * width + c)];
        want[size_t(r * width + c)] = float(v);
        squares += v * v;
      }
    }
    const double rms = std::sqrt(squares / double(want.size()));
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double e =
          std::abs(bf16_to_f32(got[i]) - want[i]) / std::max<double>(std::abs(want[i]), rms) * 256;
      worst = std::isfinite(e) ? std::max(worst, e) : 1e9;
    }
    return worst;
  }

  // Median µs of a launch in a graph of dependent ones over copies that fill more than the L2.
  double time() {
    const int copies = int(std::max<size_t>(4, (size_t{400} << 20) / bytes)), rounds = 20;
    std::vector<void*> memory(static_cast<size_t>(copies));
    for (void*& m : memory) {
      checked(cudaMalloc(&m, bytes));
      checked(cudaMemcpy(m, packed_host.data(), bytes, cudaMemcpyHostToDevice));
    }
    cudaStream_t stream;
    checked(cudaStreamCreate(&stream));
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    for (void* m : memory) made(m);
    checked(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (void* m : memory) launch(made(m), stream);
    checked(cudaStreamEndCapture(stream, &graph));
    checked(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t begin, end;
    checked(cudaEventCreate(&begin)), checked(cudaEventCreate(&end));
    std::vector<float> samples;
    for (int i = 0; i < rounds; ++i) {
      checked(cudaEventRecord(begin, stream));
      checked(cudaGraphLaunch(exec, stream));
      checked(cudaEventRecord(end, stream));
      checked(cudaEventSynchronize(end));
      float ms = 0;
      checked(cudaEventElapsedTime(&ms, begin, end));
      if (i >= 4) samples.push_back(ms * 1000 / float(copies));
    }
    std::ranges::sort(samples);
    for (void* m : memory) checked(cudaFree(m));
    return samples[samples.size() / 2];
  }
};

constexpr quant::Format kFormats[] = {quant::Format::fp8, quant::Format::int8, quant::Format::int4,
                                      quant::Format::nvfp4};

int run_check() {
  int bad = 0;
  for (const quant::Format f : kFormats) {
    for (const Shape4& s : {Shape4{1, 16, 128}, Shape4{1, 64, 1024}, Shape4{3, 38, 272}, Shape4{8, 96, 1024},
                            Shape4{1, 2304, 256, false, false, true},
                            Shape4{5, 130, 208, false, false, false, true}, Shape4{1, 4096, 1152, true, true},
                            Shape4{7, 72, 640, false, true, true, true}, Shape4{6, 44, 11008, true, true}}) {
      Bench bench(s, f, normals(s.n * s.k, 7, 1 / std::sqrt(float(s.k))));
      const double error = bench.check(), bar = s.norm ? 6 : 2;
      bad += error > bar;
      fmt::print("{:<6} {:>2} x {:>5} x {:>5}{}{}{}{}  {:.3f} units {}\n", quant::name_of(f), s.m, s.n, s.k,
                 s.pair ? " pair" : "", s.norm ? " norm" : "", s.residual ? " residual" : "",
                 s.bias ? " bias" : "", error, error > bar ? "FAILED" : "ok");
      std::fflush(stdout);
    }
  }
  fmt::print("{} failed\n", bad);
  return bad;
}

void run_time(bool quick) {
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{4096, 4096}, {22016, 4096}, {4096, 11008}, {12288, 4096}}) {
    if (quick && n == 12288) continue;
    const std::vector<float> values = normals(n * k, 7, 0.02f);
    for (const quant::Format f : kFormats) {
      if (quick && f == quant::Format::int8) continue;
      for (const int64_t m : {1, 4, 8}) {
        if (m > 1 && (n != 22016 || quick)) continue;
        Bench bench({.m = m, .n = n, .k = k, .norm = k == 4096 && m == 1}, f, values);
        const double us = bench.time(), rate = double(bench.bytes) / us / 1e6;
        fmt::print("{:<6} {} x {:>5} x {:>5}  {:7.2f} us  {:.3f} TB/s  {:5.1f} %\n", quant::name_of(f), m, n,
                   k, us, rate, rate / 4.6 * 100);
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  const std::string fatbin{std::istreambuf_iterator<char>(file), {}};
  checked(cudaFree(nullptr));
  checked(cudaLibraryLoadData(&g_library, fatbin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  const std::string what = argv[2];
  auto& tactic = cuda::default_packed_tactic();
  if (argc > 3) tactic.shared = std::atoi(argv[3]) * 1024;
  if (argc > 4) tactic.trigger = std::atoi(argv[4]);
  if (argc > 5) tactic.narrow_chunk = std::atoi(argv[5]), tactic.wide_chunk = tactic.narrow_chunk / 2;
  if (what == "check") return run_check();
  run_time(what == "quick");
  return 0;
}
