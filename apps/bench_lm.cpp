// flashrt bench on language models: time to the first token, time per token, and the floor of the bytes.
#include "apps/bench_lm.h"

#include <fmt/core.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "apps/generate.h"
#include "apps/peers.h"
#include "base/philox.h"
#include "base/threads.h"
#include "io/lm_checkpoint.h"
#include "runtime/statistics.h"
#include "runtime/text_generator.h"
#include "runtime/weight_formats.h"

namespace flashrt::apps {

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kBandwidth = 4.6e12;  // B/s: what a read of the H200's memory reaches

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// Sizes as their publishers' config.json give them.
struct Published {
  const char* name;
  int64_t layers, width, mlp, heads, kv_heads, head_dim, vocab;
  double theta, epsilon;
  bool tied = false, qk_norm = false;
  int64_t experts = 0, used = 0;
};
constexpr Published kPublished[] = {
    {"llama-2-7b", 32, 4096, 11008, 32, 32, 128, 32000, 1e4, 1e-5},
    {"llama-3-8b", 32, 4096, 14336, 32, 8, 128, 128256, 5e5, 1e-5},
    {"llama-3.2-1b", 16, 2048, 8192, 32, 8, 64, 128256, 5e5, 1e-5, true},
    {"mistral-7b", 32, 4096, 14336, 32, 8, 128, 32768, 1e6, 1e-5},
    {"qwen3-0.6b", 28, 1024, 3072, 16, 8, 128, 151936, 1e6, 1e-6, true, true},
    {"qwen3-8b", 36, 4096, 12288, 32, 8, 128, 151936, 1e6, 1e-6, false, true},
    {"qwen3-30b-a3b", 48, 2048, 768, 32, 4, 128, 151936, 1e6, 1e-6, false, true, 128, 8},
};

const Published* find_published(const std::string& name) {
  const auto found =
      std::ranges::find(kPublished, name, [](const Published& p) { return std::string(p.name); });
  return found == std::end(kPublished) ? nullptr : found;
}

LmConfig config_of(const Published& p) {
  LmConfig c;
  c.family = p.experts > 0 ? "qwen3_moe" : p.qk_norm ? "qwen3" : "llama";
  c.layers = p.layers, c.width = p.width, c.mlp = p.mlp, c.vocab = p.vocab;
  c.heads = p.heads, c.kv_heads = p.kv_heads, c.head_dim = p.head_dim;
  c.positions = 131072, c.norm_epsilon = p.epsilon, c.rope.theta = p.theta;
  c.window.assign(size_t(p.layers), 0);
  c.tied = p.tied, c.qk_norm = p.qk_norm;
  c.experts = p.experts, c.experts_used = p.used;
  return c;
}

// N(0, 0.02) matrices and norms around 1, all cut from one block of memory, 256 bytes apart: distinct to
// whoever asks, and made in a second.
class RandomWeights {
 public:
  explicit RandomWeights(const LmConfig& config) {
    size_t largest = 0;
    const auto specs = lm_weight_specs(config);
    for (const LmWeightSpec& spec : specs) {
      Shape shape = spec.shape.size() < 2 ? Shape{1, spec.shape[0]} : Shape{spec.shape[0], spec.shape[1]};
      largest = std::max(largest, size_t(shape.size()));
      shapes_.emplace(spec.name, std::pair(shape, shapes_.size()));
    }
    values_.resize(largest + specs.size() * kApart);
    std::vector<float> normals(1 << 20);
    philox_normal(1, normals);
    parallel_for(int64_t(values_.size()), 1 << 20, [&](int64_t begin, int64_t end) {
      uint64_t state = uint64_t(begin) * 0x9e3779b97f4a7c15u + 1;
      for (int64_t i = begin; i < end; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values_[size_t(i)] = f32_to_bf16(0.02f * normals[state >> 44]);
      }
    });
    ones_.resize(size_t(std::max(config.width, config.head_dim)), f32_to_bf16(1));
  }
  Weight operator()(const std::string& name) const {
    const auto found = shapes_.find(name);
    if (found == shapes_.end()) fail("the tensor {} is missing", name);
    const auto [shape, index] = found->second;
    const bool norm = shape.rows == 1 && name.find("norm") != name.npos;
    const uint16_t* from = norm ? ones_.data() : values_.data() + index * kApart;
    return {.name = name,
            .shape = shape,
            .parts = {{reinterpret_cast<const std::byte*>(from), DType::bf16, shape.rows, shape.cols}}};
  }

 private:
  static constexpr size_t kApart = 128;
  std::map<std::string, std::pair<Shape, size_t>> shapes_;
  std::vector<uint16_t> values_, ones_;
};

// Bits of a weight with its share of scales.
double bits_per_weight(const std::string& format) {
  if (format.empty()) return 16;
  return format == "int4" ? 4 + 16. / 128 : format == "nvfp4" ? 4 + 8. / 16 : 8;
}

// Bytes that one token reads at a context of `keys`; cache, router and output matrix in two bytes a value.
double bytes_per_token(const LmConfig& c, double keys, const std::string& format) {
  const double q = double(c.heads * c.head_dim), kv = double(c.kv_heads * c.head_dim), n = double(c.width);
  const double mlp = 3 * double(c.mlp) * n * double(c.experts > 0 ? c.experts_used : 1);
  const double matrices = double(c.layers) * (n * (q + 2 * kv) + n * q + mlp);
  return matrices * bits_per_weight(format) / 8 +
         2 * (double(c.layers) * (double(c.experts) * n + 2 * keys * kv) + double(c.vocab) * n);
}

std::vector<int32_t> random_ids(int64_t count, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i)
    ids.push_back(int32_t(philox(3, uint64_t(i)).word[0] % uint64_t(vocab)));
  return ids;
}

double first_token_ms(LmEngine& engine, int64_t length) {
  const std::vector<int32_t> ids = random_ids(length, engine.config().vocab);
  engine.rewind(0);
  const auto begin = Clock::now();
  engine.begin(ids);
  engine.next(false);
  return ms_since(begin);
}

// The lines of a decode step by kind, each launched alone: what a launch costs by itself, not in the chain.
void print_lines(Runner& runner) {
  const std::vector<float> ms = runner.profile(5);
  std::map<std::string, std::pair<int, double>> kinds;
  const Program& program = runner.program();
  for (size_t i = 0; i < program.lines.size(); ++i) {
    const Line& line = program.lines[i];
    std::string kind = fmt::format("{} {} {}", line.op->name, runner.implementation(i),
                                   line.op->describe != nullptr ? line.op->describe(line) : "");
    for (int id : line.in) {
      if (id >= 0 && program.info(id).kind == Kind::weight && program.info(id).shape.rows > 1)
        kind += fmt::format(" {}x{}", program.info(id).shape.rows, program.info(id).shape.cols);
    }
    auto& [count, total] = kinds[kind];
    ++count, total += double(ms[i]);
  }
  for (const auto& [kind, value] : kinds)
    fmt::print("{:>4} x {:8.2f} us  {}\n", value.first, 1e3 * value.second / value.first, kind);
}

// What the device's memory in use is made of; `other`: code, graphs, and what the driver rounds up.
nlohmann::json memory_report(const Backend& backend, const LmEngine& engine) {
  const MemoryUse use = engine.memory();
  const size_t used = backend.device_used_bytes();
  const size_t known = backend.idle_bytes() + backend.weight_bytes() + use.sum();
  return {{"used", used},
          {"driver", backend.idle_bytes()},
          {"weights", backend.weight_bytes()},
          {"cache", use.state},
          {"activations", use.activations},
          {"workspaces", use.workspaces + use.constants},
          {"other", used > known ? used - known : 0}};
}

void print_memory(const nlohmann::json& memory) {
  const auto mb = [&](const char* name) { return memory[name].get<double>() / 1e6; };
  fmt::print(
      "device memory {:.1f} MB: driver {:.1f}, weights {:.1f}, cache {:.1f}, activations {:.1f}, workspaces "
      "{:.1f}, other "
      "{:.1f}; {:+.1f} over the timed tokens\n",
      mb("used"), mb("driver"), mb("weights"), mb("cache"), mb("activations"), mb("workspaces"), mb("other"),
      mb("growth"));
}

double median_of(std::vector<double> values) { return percentiles(values).p50; }

}  // namespace

void LmBenchOptions::add_to(CLI::App& app) {
  app.add_option("--prompt", prompt, "Language models: tokens before the timed ones")
      ->check(CLI::Range(1, 1 << 20));
  app.add_flag("--lines", lines, "Language models: time every kind of line by itself");
  app.add_option("--tokens", tokens, "Language models: timed tokens")->check(CLI::Range(2, 1 << 20));
  add_weight_format(app, weights);
}

bool is_language_model(const NetworkOptions& network) {
  if (!network.random.empty()) return find_published(network.random) != nullptr;
  const std::string file = network.checkpoint + "/config.json";
  std::error_code ignored;
  if (network.checkpoint.empty() || !std::filesystem::exists(file, ignored)) return false;
  std::ifstream in(file);
  const auto config = nlohmann::json::parse(in, nullptr, false);
  return config.is_object() && config.contains("model_type") && config.contains("vocab_size") &&
         !config.contains("type");
}

int bench_lm(const NetworkOptions& network, const DeviceOptions& device, const LmBenchOptions& options,
             bool json, const std::string& out, const std::string& peers) {
  std::unique_ptr<LmCheckpoint> checkpoint;
  LmConfig config;
  WeightSource source;
  const auto start = Clock::now();
  if (const Published* published = find_published(network.random)) {
    config = config_of(*published);
    source = [random = std::make_shared<RandomWeights>(config)](const std::string& name) {
      return (*random)(name);
    };
    if (!options.weights.empty()) {
      source = encoded_weights(std::move(source), config, parse_weight_format(options.weights));
    }
  } else {
    checkpoint = std::make_unique<LmCheckpoint>(load_lm_checkpoint(network.checkpoint));
    config = checkpoint->config;
    source = lm_weights(*checkpoint, options.weights);
  }
  const auto backend = device.open();
  const int64_t context = std::max<int64_t>(options.prompt + options.tokens, 2048) + 16;
  LmEngine engine(config, source, backend, context, device.runner_options());
  nlohmann::json report{{"network", network.random.empty() ? network.checkpoint : "random " + network.random},
                        {"weights", options.weights.empty() ? "as stored" : options.weights},
                        {"device", backend->name()},
                        {"precision", name_of(backend->compute())}};
  for (const int64_t length : {int64_t{1}, int64_t{128}, int64_t{512}, int64_t{2048}}) {
    first_token_ms(engine, length);
    std::vector<double> ms;
    for (int i = 0; i < 3; ++i) ms.push_back(first_token_ms(engine, length));
    const double p50 = median_of(ms);
    report["first_token"].push_back(
        {{"prompt", length}, {"ms", p50}, {"tokens_per_s", 1e3 * double(length) / p50}});
  }
  report["build_ms"] = ms_since(start);

  engine.rewind(0);
  engine.begin(random_ids(options.prompt, config.vocab));
  engine.next(true);
  std::vector<double> ms;
  const size_t used_before = backend->device_used_bytes();
  const auto begin = Clock::now();
  auto last = begin;
  for (int64_t i = 1; i <= options.tokens; ++i) {
    engine.next(i < options.tokens);
    const auto now = Clock::now();
    ms.push_back(std::chrono::duration<double, std::milli>(now - last).count());
    last = now;
  }
  const double mean = ms_since(begin) / double(options.tokens);
  const double floor =
      1e3 * bytes_per_token(config, double(options.prompt) + double(options.tokens) / 2, options.weights) /
      kBandwidth;
  const Percentiles p = percentiles(ms);
  report["decode"] = {{"from_context", options.prompt},
                      {"tokens", options.tokens},
                      {"ms_per_token", mean},
                      {"p50_ms", p.p50},
                      {"p99_ms", p.p99},
                      {"tokens_per_s", 1e3 / mean},
                      {"floor_ms", floor},
                      {"percent_of_floor", 100 * floor / mean}};
  report["launches"] = engine.likeliest_runner().launch_count();
  if (const auto ms = peers_of(report, peers); !ms.empty()) report["peers_ms"] = ms;
  report["weight_bytes"] = backend->weight_bytes();
  report["device_used_bytes"] = backend->device_used_bytes();
  report["memory"] = memory_report(*backend, engine);
  report["memory"]["growth"] = double(backend->device_used_bytes()) - double(used_before);
  if (!out.empty()) {
    std::ofstream file(out);
    if (!(file << report.dump(2) << "\n")) fail("--out {}: cannot write", out);
  }
  if (json) {
    print_json(report);
    return 0;
  }
  fmt::print("{}, weights {}, {} on {}\n", report["network"].get<std::string>(),
             report["weights"].get<std::string>(), name_of(backend->compute()), backend->name());
  for (const auto& row : report["first_token"])
    fmt::print("first token after {:>5} tokens  {:8.2f} ms  ({:.0f} tokens/s)\n",
               row["prompt"].get<int64_t>(), row["ms"].get<double>(), row["tokens_per_s"].get<double>());
  fmt::print(
      "decode, context {} to {}: {:.3f} ms per token (p50 {:.3f}, p99 {:.3f}), {:.1f} tokens/s, floor {:.3f} "
      "ms ({:.0f} %)\n",
      options.prompt, options.prompt + options.tokens, mean, p.p50, p.p99, 1e3 / mean, floor,
      100 * floor / mean);
  print_peers(report.value("peers_ms", nlohmann::json::object()), mean);
  fmt::print("{} launches per token; weights {:.1f} MB, built in {:.1f} s\n",
             engine.likeliest_runner().launch_count(), double(backend->weight_bytes()) / 1e6,
             report["build_ms"].get<double>() / 1e3);
  if (backend->on_gpu()) print_memory(report["memory"]);
  if (options.lines) print_lines(engine.likeliest_runner());
  return 0;
}

}  // namespace flashrt::apps
