// Episode loop, success statistics and their JSON.
#include "tabletop/episode.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "tabletop/expert.h"

namespace flashrt::tabletop {
namespace {

constexpr double kZ95 = 1.959963984540054;  // two-sided 95 % of the normal distribution

// Wilson (1927): the bounds of the score test, sensible near 0 and 1 and for small n.
double wilson(const Rate& r, double sign) {
  if (r.episodes == 0) return sign < 0 ? 0 : 1;
  const double n = r.episodes, p = r.rate(), z2 = kZ95 * kZ95;
  const double spread = kZ95 * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return std::clamp((p + z2 / (2 * n) + sign * spread) / (1 + z2 / n), 0., 1.);
}

std::string rate_json(const Rate& r) {
  char text[160];
  std::snprintf(text, sizeof text,
                "{\"episodes\": %d, \"successes\": %d, \"success_rate\": %.4f, \"ci95\": [%.4f, %.4f]}",
                r.episodes, r.successes, r.rate(), r.low(), r.high());
  return text;
}

}  // namespace

double Rate::low() const { return wilson(*this, -1); }
double Rate::high() const { return wilson(*this, 1); }

Policy expert_policy(int horizon) {
  return [chunk = std::vector<float>(), horizon](const Observation& o) mutable -> std::span<const float> {
    chunk.clear();
    World copy = o.truth->world;
    for (int i = 0; i < horizon; ++i) {
      const Action a = expert_action(copy, o.truth->task);
      chunk.insert(chunk.end(), {a.dx, a.dy, a.dz, a.grip});
      copy.step(a);
    }
    return chunk;
  };
}

EpisodeResult run_episode(uint64_t seed, const Policy& policy, const LoopOptions& options,
                          const FrameSink& sink) {
  using Clock = std::chrono::steady_clock;
  Episode e = make_episode(seed);
  const std::string prompt = options.swap_prompts ? swapped_prompt(e) : e.prompt;
  const size_t bytes = image_bytes(options.image_size);
  std::vector<uint8_t> images(kCameras * bytes, 128);
  std::array<float, kStateDim> state{};
  Observation o;
  o.top = {images.data(), bytes};
  o.wrist = {images.data() + bytes, bytes};
  o.image_size = options.image_size;
  o.state = state;
  o.prompt = prompt;
  o.seed = seed;
  o.truth = &e;
  const auto observe = [&](int step) {
    o.step = step;
    state = e.world.state();
    for (int c = 0; c < kCameras && !options.blank_images; ++c) {
      render(e.world, Camera(c), options.image_size, {images.data() + size_t(c) * bytes, bytes});
    }
  };
  EpisodeResult result{seed, e.task.family, prompt, false, 0, {}};
  std::span<const float> chunk;
  size_t next = 0, execute = 0;
  int streak = 0;
  for (int t = 0; t < kTimeLimit && !result.success; ++t) {
    const bool replan = next == execute;
    if (replan || sink) observe(t);
    if (replan) {
      const auto start = Clock::now();
      chunk = policy(o);
      result.policy_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
      const size_t horizon = chunk.size() / kActionDim;
      if (horizon == 0) throw std::runtime_error("the policy returned no actions");
      execute =
          options.execute > 0 ? std::min(size_t(options.execute), horizon) : std::max<size_t>(1, horizon / 2);
      next = 0;
    }
    if (sink) sink({o, result.policy_ms.back(), replan, false, false});
    const float* a = chunk.data() + next++ * kActionDim;
    e.world.step({a[0], a[1], a[2], a[3]});
    streak = succeeded(e.world, e.task) ? streak + 1 : 0;
    result.steps = t + 1;
    result.success = streak >= kHoldFrames;
  }
  if (sink) {
    observe(result.steps);
    sink({o, result.policy_ms.back(), false, true, result.success});
  }
  return result;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const size_t k = std::min(values.size() - 1, size_t(share * double(values.size())));
  std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(k), values.end());
  return values[k];
}

Summary summarise(std::span<const EpisodeResult> results) {
  Summary s;
  std::vector<double> ms;
  for (const EpisodeResult& r : results) {
    for (Rate* rate : {&s.all, &s.family[int(r.family)]}) {
      ++rate->episodes;
      rate->successes += r.success;
    }
    ms.insert(ms.end(), r.policy_ms.begin(), r.policy_ms.end());
  }
  s.policy_ms_p50 = percentile(ms, 0.5);
  s.policy_ms_p99 = percentile(ms, 0.99);
  s.policy_calls = int(ms.size());
  return s;
}

std::string to_json(const Summary& s, const std::string& extra) {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "{\"episodes\": %d, \"successes\": %d, \"success_rate\": %.4f, \"ci95\": [%.4f, %.4f], \"tasks\": {",
      s.all.episodes, s.all.successes, s.all.rate(), s.all.low(), s.all.high());
  std::string json = text;
  for (int f = 0; f < kFamilies; ++f) {
    json += std::string(f ? ", \"" : "\"") + name(Family(f)) + "\": " + rate_json(s.family[f]);
  }
  std::snprintf(text, sizeof text,
                "}, \"policy_ms_p50\": %.3f, \"policy_ms_p99\": %.3f, \"policy_calls\": %d", s.policy_ms_p50,
                s.policy_ms_p99, s.policy_calls);
  return json + text + extra + "}";
}

}  // namespace flashrt::tabletop
