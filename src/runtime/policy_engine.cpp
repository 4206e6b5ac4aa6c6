// Weight sources, the cache of programs, and case replay.
#include "runtime/policy_engine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/philox.h"
#include "base/threads.h"
#include "io/policy_weights.h"

namespace flashrt {

namespace {

Weight as_weight(const std::string& name, std::span<const int64_t> shape, const std::byte* data,
                 DType dtype) {
  Weight weight{.name = name};
  int64_t size = 1;
  for (int64_t n : shape) size *= n;
  weight.shape = shape.size() < 2 ? Shape{1, size} : Shape{shape[0], size / shape[0]};
  weight.parts = {{data, dtype, weight.shape.rows, weight.shape.cols}};
  return weight;
}

template <class T>
std::span<T> as(std::span<std::byte> bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// A prime number of pages of normals, mapped again and again behind itself: a window of any length anywhere,
// and rows of equal content never lie at distances that a network pairs.
class RandomPool {
 public:
  explicit RandomPool(uint64_t seed, size_t longest) {
    constexpr size_t kPage = 4096, kPages = 16411;
    period_ = kPage * kPages;
    const size_t copies = longest / period_ + 2;
    const int fd = memfd_create("flashrt-random-weights", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, off_t(period_)) != 0) fail("cannot make {} bytes of random weights", period_);
    bytes_ = copies * period_;
    void* area = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) fail("cannot reserve {} bytes of addresses", bytes_);
    data_ = static_cast<std::byte*>(area);
    for (size_t i = 0; i < copies; ++i) {
      void* at = mmap(data_ + i * period_, period_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
      if (at == MAP_FAILED) fail("cannot map random weights");
    }
    close(fd);
    auto* values = reinterpret_cast<uint16_t*>(data_);
    parallel_for(int64_t(kPages), 64, [&](int64_t begin, int64_t end) {
      std::array<float, kPage / 2> normals;
      for (int64_t page = begin; page < end; ++page) {
        philox_normal(seed * 1000003 + uint64_t(page), normals);
        for (size_t i = 0; i < normals.size(); ++i)
          values[size_t(page) * normals.size() + i] = f32_to_bf16(0.02f * normals[i]);
      }
    });
  }
  RandomPool(const RandomPool&) = delete;
  ~RandomPool() { munmap(data_, bytes_); }
  const std::byte* at(uint64_t offset) const { return data_ + offset % (period_ / 64) * 64; }

 private:
  std::byte* data_ = nullptr;
  size_t period_ = 0, bytes_ = 0;
};

}  // namespace

WeightSource checkpoint_weights(const PolicyCheckpoint& checkpoint) {
  return [&checkpoint](const std::string& name) {
    const TensorView* tensor = checkpoint.find(name);
    if (tensor == nullptr) fail("{}: the checkpoint has no tensor {}", checkpoint.path, name);
    return as_weight(name, tensor->shape, tensor->bytes.data(), tensor->dtype);
  };
}

WeightSource random_policy_weights(const PolicyConfig& config, uint64_t seed) {
  struct Held {
    std::unique_ptr<RandomPool> pool;
    std::map<std::string, std::vector<int64_t>> shapes;
    std::map<std::string, std::vector<float>> norms;
  };
  auto held = std::make_shared<Held>();
  size_t longest = 0;
  for (const WeightSpec& spec : policy_weights(config)) {
    int64_t size = 1;
    for (int64_t n : spec.shape) size *= n;
    longest = std::max(longest, size_t(size) * 2);
    held->shapes[spec.name] = spec.shape;
    if (spec.name.starts_with("vision_tower.") && spec.name.find("norm") != std::string::npos &&
        spec.name.ends_with(".weight")) {
      std::vector<float>& values =
          held->norms[spec.name];  // LayerNorm multiplies by w, Gemma's norms by 1 + w
      values.resize(size_t(size));
      philox_normal(seed ^ std::hash<std::string>{}(spec.name), values);
      for (float& v : values) v = 1.f + 0.02f * v;
    }
  }
  held->pool = std::make_unique<RandomPool>(seed, longest);
  return [held](const std::string& name) {
    const auto shape = held->shapes.find(name);
    if (shape == held->shapes.end()) fail("the policy has no tensor {}", name);
    if (const auto norm = held->norms.find(name); norm != held->norms.end()) {
      return as_weight(name, shape->second, reinterpret_cast<const std::byte*>(norm->second.data()),
                       DType::f32);
    }
    return as_weight(name, shape->second, held->pool->at(philox(1, std::hash<std::string>{}(name)).word[0]),
                     DType::bf16);
  };
}

Runner& PolicyEngine::runner(const PolicyShape& shape) {
  std::unique_ptr<Runner>& slot =
      runners_[{shape.views, shape.text_tokens, shape.horizon, shape.steps, int64_t(shape.image)}];
  if (!slot) {
    auto program = std::make_unique<Program>(options_.fuse_for != nullptr ? options_.fuse_for->compute()
                                                                          : backend_->compute());
    record_pi0(*program, config_, weights_, shape);
    slot = std::make_unique<Runner>(backend_, std::move(program), options_);
  }
  return *slot;
}

Comparison compare(std::span<const float> result, std::span<const float> reference) {
  check(result.size() == reference.size(), "compare: equal sizes");
  Comparison c;
  double difference = 0, squares = 0, own = 0, product = 0;
  for (size_t i = 0; i < result.size(); ++i) {
    const double a = result[i], b = reference[i];
    if (!std::isfinite(a) || !std::isfinite(b)) return {INFINITY, INFINITY, NAN};
    c.max_abs = std::max(c.max_abs, std::abs(a - b));
    difference += (a - b) * (a - b);
    own += a * a, squares += b * b, product += a * b;
  }
  c.relative = squares > 0 ? std::sqrt(difference / squares) : std::sqrt(difference);
  c.cosine = own > 0 && squares > 0 ? product / std::sqrt(own * squares) : NAN;
  return c;
}

Runner& load_case(PolicyEngine& engine, const PolicyCase& recorded) {
  const PolicyConfig& config = engine.config();
  const int64_t size = config.vision.image_size;
  std::vector<const CaseImage*> present;
  for (size_t i = 0; i < recorded.images.size(); ++i) {
    if (recorded.image_mask[i] == 0) continue;
    const CaseImage& image = recorded.images[i];
    if (image.height != size || image.width != size) {
      fail("in.image.{}: expected [3, {}, {}], found [3, {}, {}]", i, size, size, image.height, image.width);
    }
    present.push_back(&image);
  }
  if (present.empty()) fail("the case has no camera that is present");
  if (recorded.action_dim != config.action_dim) {
    fail("in.noise: expected {} action dimensions, found {}", config.action_dim, recorded.action_dim);
  }
  std::vector<int32_t> ids;
  for (size_t i = 0; i < recorded.token_ids.size(); ++i) {
    if (recorded.token_mask[i] == 0) continue;
    if (recorded.token_ids[i] < 0 || recorded.token_ids[i] >= config.vocab) {
      fail("in.token_ids[{}]: {} is outside the vocabulary of {}", i, recorded.token_ids[i], config.vocab);
    }
    ids.push_back(recorded.token_ids[i]);
  }
  int64_t steps = config.steps;
  if (const auto note = recorded.notes.find("num_steps"); note != recorded.notes.end()) {
    const auto [end, code] =
        std::from_chars(note->second.data(), note->second.data() + note->second.size(), steps);
    if (code != std::errc{} || *end != 0 || steps < 1 || steps > 1000) {
      fail("metadata num_steps: expected 1 to 1000, found '{}'", note->second);
    }
  }
  const PolicyShape shape{.views = int64_t(present.size()),
                          .text_tokens = int64_t(recorded.token_ids.size()),
                          .horizon = recorded.horizon,
                          .steps = steps,
                          .image = DType::f32};
  Runner& runner = engine.runner(shape);
  auto image = as<float>(runner.input("image"));
  for (size_t i = 0; i < present.size(); ++i) {
    std::copy(present[i]->values.begin(), present[i]->values.end(),
              image.begin() + int64_t(i) * 3 * size * size);
  }
  auto tokens = as<int32_t>(runner.input("token_ids"));
  std::ranges::fill(tokens, 0);
  std::ranges::copy(ids, tokens.begin());
  as<int32_t>(runner.input("prefix_length"))[0] =
      int32_t(shape.views * config.vision.tokens() + int64_t(ids.size()));
  std::ranges::copy(recorded.noise, as<float>(runner.input("noise")).begin());
  if (config.family == PolicyFamily::pi0) {
    if (int64_t(recorded.state.size()) != config.state_dim) {
      fail("in.state: expected {} values, found {}", config.state_dim, recorded.state.size());
    }
    std::ranges::copy(recorded.state, as<float>(runner.input("state")).begin());
  }
  return runner;
}

std::vector<float> replay(PolicyEngine& engine, const PolicyCase& recorded) {
  Runner& runner = load_case(engine, recorded);
  if (!runner.run()) fail_device("running the policy: {}", runner.error());
  const auto bytes = runner.output("actions");
  std::vector<float> actions(bytes.size() / sizeof(float));
  std::memcpy(actions.data(), bytes.data(), bytes.size());
  return actions;
}

}  // namespace flashrt
