// The session's order of work is openpi's: adapt, normalise, tokenise, run, un-normalise, finish.
#include "runtime/policy.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/philox.h"

namespace flashrt {

namespace {

using Clock = std::chrono::steady_clock;
float ms_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<float, std::milli>(b - a).count();
}

PolicyConfig with_options(PolicyConfig config, const PolicyOptions& options) {
  if (options.steps > 0) config.steps = options.steps;
  if (options.horizon > 0) config.horizon = options.horizon;
  return config;
}

template <class T>
T* as(std::span<std::byte> bytes) {
  return reinterpret_cast<T*>(bytes.data());
}

}  // namespace

PolicySession::PolicySession(PolicyCheckpoint checkpoint, std::shared_ptr<Backend> backend,
                             PolicyOptions options, RunnerOptions runner_options)
    : checkpoint_(std::make_unique<PolicyCheckpoint>(std::move(checkpoint))),
      options_(std::move(options)),
      engine_(with_options(checkpoint_->config, options_), checkpoint_weights(*checkpoint_),
              std::move(backend), runner_options),
      robot_(find_robot(options_.robot, engine_.config())) {
  const PolicyConfig& c = engine_.config();
  const std::string& path = options_.tokenizer.empty() ? checkpoint_->tokenizer : options_.tokenizer;
  if (path.empty()) {
    fail("{}: no tokenizer.model or tokenizer.json in the checkpoint; name one with --tokenizer",
         checkpoint_->path);
  }
  Tokenizer tokenizer = Tokenizer::load(path);
  if (tokenizer.vocab_size() > c.vocab) {
    fail("{}: {} tokens, but the checkpoint embeds only {}", path, tokenizer.vocab_size(), c.vocab);
  }
  prompt_.emplace(std::move(tokenizer), c);
  if (state_dim() > c.state_dim)
    fail("robot {}: {} state values, the policy takes at most {}", robot_.name, state_dim(), c.state_dim);
  if (action_dim() > c.action_dim)
    fail("robot {}: {} actions, the policy makes {}", robot_.name, action_dim(), c.action_dim);
  resize_.resize(robot_.cameras.size());
  present_.resize(resize_.size());
  state_.resize(size_t(state_dim()));
  echoed_.resize(state_.size());
  raw_.resize(size_t(c.horizon * c.action_dim));
  scaled_.resize(raw_.size());
  actions_.resize(size_t(c.horizon * action_dim()));
}

PolicyShape PolicySession::shape_for(int64_t views, int64_t text_tokens) const {
  const PolicyConfig& c = config();
  const int64_t bucket = options_.text_bucket;
  // LeRobot's resize gives values between bytes; the others end in bytes, as does a picture of the right
  // size.
  bool bytes = c.resize != ResizeRule::torch_bilinear;
  if (!bytes) {
    bytes = std::ranges::all_of(present_, [&](const CameraImage* image) {
      return image == nullptr ||
             (image->width == c.vision.image_size && image->height == c.vision.image_size);
    });
  }
  return {.views = views,
          .text_tokens = std::min(c.max_prompt_tokens, (text_tokens + bucket - 1) / bucket * bucket),
          .horizon = c.horizon,
          .steps = c.steps,
          .image = bytes ? DType::u8 : DType::f32};
}

void PolicySession::prepare(int64_t views, int64_t text_tokens) {
  std::ranges::fill(present_, nullptr);
  engine_.runner(shape_for(views, text_tokens));
}

size_t PolicySession::slot_of(std::string_view camera) const {
  for (const auto& [from, to] : config().renames) {  // a handful; no string is made on the hot path
    if (from == camera) return find_camera(robot_, to);
  }
  return find_camera(robot_, camera);
}

void PolicySession::take_state(std::span<const float> state) {
  const PolicyConfig& c = config();
  if (state.empty() && c.family == PolicyFamily::pi05 && !c.state_in_prompt) {
    std::ranges::fill(state_, 0.f);  // a network that never sees the state
  } else {
    if (int64_t(state.size()) != state_dim())
      fail("state: expected {} values, found {}", state_dim(), state.size());
    check_state(robot_, state);
    std::ranges::copy(state, state_.begin());
  }
  adapt_state(robot_, state_);
  c.state.normalize(state_);
  for (size_t i = 0; i < state_.size(); ++i) {
    if (!std::isfinite(state_[i])) fail("state[{}]: {} is not finite after normalisation", i, state_[i]);
  }
  std::ranges::copy(state_, echoed_.begin());
  c.state.unnormalize(echoed_);
}

void PolicySession::take_images(Runner& runner, const PolicyShape& shape) {
  const int size = int(config().vision.image_size);
  const std::span<std::byte> input = runner.input("image");
  const size_t view_bytes = input.size() / size_t(shape.views);
  std::byte* to = input.data();
  for (size_t slot = 0; slot < present_.size(); ++slot) {
    const CameraImage* image = present_[slot];
    if (image == nullptr) continue;
    auto& plan = resize_[slot];
    if (!plan || plan->src_width() != image->width || plan->src_height() != image->height) {
      plan = std::make_unique<ResizePlan>(image->width, image->height, size, size, config().resize);
    }
    if (shape.image == DType::u8) {
      plan->run(image->rgb, reinterpret_cast<uint8_t*>(to));
    } else {
      plan->run(image->rgb, reinterpret_cast<float*>(to));
    }
    to += view_bytes;
  }
}

ActionChunk PolicySession::act(const Observation& observation) {
  const auto begin = Clock::now();
  const PolicyConfig& c = config();
  std::ranges::fill(present_, nullptr);
  int64_t views = 0;
  for (const CameraImage& image : observation.cameras) {
    const CameraImage*& slot = present_[slot_of(image.camera)];
    if (slot != nullptr) fail("camera '{}': given twice", image.camera);
    if (image.rgb == nullptr) fail("camera '{}': no pixels", image.camera);
    slot = &image;
    ++views;
  }
  if (views == 0) fail("expected at least one camera image");
  take_state(observation.state);
  if (observation.prompt != prompt_text_ || prompt_text_.empty()) {
    prompt_->set_text(observation.prompt);
    prompt_text_ = observation.prompt;
  }
  const std::span<const int32_t> ids = prompt_->encode(state_);

  const PolicyShape shape = shape_for(views, int64_t(ids.size()));
  Runner& runner = engine_.runner(shape);
  take_images(runner, shape);
  const std::span<std::byte> tokens = runner.input("token_ids");
  std::memset(tokens.data(), 0, tokens.size());
  std::memcpy(tokens.data(), ids.data(), ids.size_bytes());
  *as<int32_t>(runner.input("prefix_length")) = int32_t(views * c.vision.tokens() + int64_t(ids.size()));
  if (c.family == PolicyFamily::pi0) {
    float* state = as<float>(runner.input("state"));
    std::fill(std::copy(state_.begin(), state_.end(), state), state + c.state_dim, 0.f);
  }
  float* noise = as<float>(runner.input("noise"));
  if (observation.noise.empty()) {
    philox_normal(observation.seed, {noise, raw_.size()});
  } else {
    if (observation.noise.size() != raw_.size()) {
      fail("noise: expected [{}, {}] = {} values, found {}", c.horizon, c.action_dim, raw_.size(),
           observation.noise.size());
    }
    std::ranges::copy(observation.noise, noise);
  }
  const auto ready = Clock::now();
  if (!runner.run()) fail_device("running the policy: {}", runner.error());
  const auto done = Clock::now();

  std::memcpy(raw_.data(), runner.output("actions").data(), raw_.size() * sizeof(float));
  for (size_t i = 0; i < raw_.size(); ++i) {
    if (!std::isfinite(raw_[i]))
      fail_device("the policy's action [{}, {}] is not finite", int64_t(i) / c.action_dim,
                  int64_t(i) % c.action_dim);
  }
  std::ranges::copy(raw_, scaled_.begin());
  const auto width = size_t(action_dim());
  for (int64_t t = 0; t < c.horizon; ++t) c.action.unnormalize({scaled_.data() + t * c.action_dim, width});
  finish_actions(robot_, echoed_, scaled_, int(c.action_dim), actions_);
  for (float a : actions_) {
    if (!std::isfinite(a)) fail_device("a robot action is not finite after un-normalisation");
  }
  const auto end = Clock::now();

  ActionChunk chunk{.actions = actions_, .horizon = c.horizon, .dim = action_dim(), .raw = raw_};
  const auto& stages = runner.program().stages;
  const auto stage = [&](std::string_view name) {
    const auto found = std::ranges::find(stages, name);
    return found == stages.end() ? NAN : runner.stage_ms()[size_t(found - stages.begin())];
  };
  chunk.times = {.preprocess = ms_between(begin, ready),
                 .vision = stage("vision"),
                 .prefix = stage("prefix"),
                 .action = stage("action"),
                 .post = ms_between(done, end),
                 .total = ms_between(begin, end)};
  return chunk;
}

}  // namespace flashrt
