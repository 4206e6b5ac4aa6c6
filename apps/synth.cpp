// flashrt synth: a seeded random checkpoint of any size in LeRobot's layout.
#include <fmt/core.h>

#include "apps/command.h"
#include "io/policy_synth.h"

namespace flashrt::apps {

namespace {

struct Options {
  std::string directory, family = "pi05", size = "tiny", dtype = "bf16", tokenizer;
  uint64_t seed = 0;
  int64_t width = 0, layers = 0, mlp = 0, heads = 0, kv_heads = 0, head_dim = 0, expert_width = 0,
          expert_mlp = 0;
  int64_t vision_width = 0, vision_layers = 0, vision_mlp = 0, vision_heads = 0, image_size = 0, patch = 0;
  int64_t vocab = 0, horizon = 0, action_dim = 0, state_dim = 0, cameras = 0, steps = 0, prompt_tokens = 0;
};

void set(int64_t& target, int64_t value) {
  if (value > 0) target = value;
}

int run(const Options& o) {
  PolicyConfig c = published_config(o.family);
  if (o.size == "tiny") {
    c.vision = {.width = 64, .layers = 2, .mlp = 128, .heads = 4, .image_size = 56, .patch = 14};
    c.language = {.width = 64, .layers = 4, .mlp = 128, .heads = 4, .kv_heads = 1, .head_dim = 16};
    c.expert = {.width = 32, .layers = 4, .mlp = 64, .heads = 4, .kv_heads = 1, .head_dim = 16};
    c.vocab = 512;
    c.horizon = 10;
    c.max_prompt_tokens = 48;
  } else if (o.size != "published") {
    fail("--size: expected tiny or published, found '{}'", o.size);
  }
  set(c.language.width, o.width), set(c.language.mlp, o.mlp), set(c.vocab, o.vocab);
  for (DecoderDims* d : {&c.language, &c.expert}) {
    set(d->layers, o.layers), set(d->heads, o.heads), set(d->kv_heads, o.kv_heads),
        set(d->head_dim, o.head_dim);
  }
  set(c.expert.width, o.expert_width), set(c.expert.mlp, o.expert_mlp);
  set(c.vision.width, o.vision_width), set(c.vision.layers, o.vision_layers), set(c.vision.mlp, o.vision_mlp);
  set(c.vision.heads, o.vision_heads), set(c.vision.image_size, o.image_size), set(c.vision.patch, o.patch);
  set(c.horizon, o.horizon), set(c.action_dim, o.action_dim), set(c.state_dim, o.state_dim),
      set(c.steps, o.steps);
  set(c.max_prompt_tokens, o.prompt_tokens);
  if (o.cameras > 0) {
    c.cameras.clear();
    for (int64_t i = 0; i < o.cameras; ++i) c.cameras.push_back(fmt::format("camera{}", i));
  }
  c.embedding_scale = std::sqrt(double(c.language.width));
  c.state_in_prompt = c.family == PolicyFamily::pi05;
  c.state_mode = c.action_mode = c.family == PolicyFamily::pi05 ? NormMode::quantile : NormMode::zscore;
  check_policy_config(c, "synth");
  const DType dtype = o.dtype == "f32" ? DType::f32 : o.dtype == "f16" ? DType::f16 : DType::bf16;
  synthesize_policy(o.directory, c, {.seed = o.seed, .dtype = dtype, .tokenizer = o.tokenizer});
  fmt::print("{}: a random {} checkpoint in LeRobot's layout, seed {}\n", o.directory, o.family, o.seed);
  return 0;
}

}  // namespace

void add_synth(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("synth", "Write a seeded random checkpoint of any size");
  command.add_option("directory", o->directory, "Directory to write")->required();
  command.add_option("--family", o->family, "pi0 or pi05")->capture_default_str();
  command.add_option("--size", o->size, "Sizes to start from: tiny or published")->capture_default_str();
  command.add_option("--dtype", o->dtype, "Of the weights")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  command.add_option("--seed", o->seed, "Seed")->capture_default_str();
  command.add_option("--tokenizer", o->tokenizer, "tokenizer.json or tokenizer.model to copy along")
      ->check(CLI::ExistingFile);
  const std::pair<const char*, int64_t*> sizes[] = {{"--width", &o->width},
                                                    {"--layers", &o->layers},
                                                    {"--mlp", &o->mlp},
                                                    {"--heads", &o->heads},
                                                    {"--kv-heads", &o->kv_heads},
                                                    {"--head-dim", &o->head_dim},
                                                    {"--expert-width", &o->expert_width},
                                                    {"--expert-mlp", &o->expert_mlp},
                                                    {"--vision-width", &o->vision_width},
                                                    {"--vision-layers", &o->vision_layers},
                                                    {"--vision-mlp", &o->vision_mlp},
                                                    {"--vision-heads", &o->vision_heads},
                                                    {"--image-size", &o->image_size},
                                                    {"--patch", &o->patch},
                                                    {"--vocab", &o->vocab},
                                                    {"--horizon", &o->horizon},
                                                    {"--action-dim", &o->action_dim},
                                                    {"--state-dim", &o->state_dim},
                                                    {"--cameras", &o->cameras},
                                                    {"--steps", &o->steps},
                                                    {"--prompt-tokens", &o->prompt_tokens}};
  for (const auto& [name, target] : sizes) {
    command.add_option(name, *target, "Overrides the size's value")
        ->check(CLI::Range(1, 1000000))
        ->group("Sizes");
  }
  on_run(command, [o] { return run(*o); });
}

}  // namespace flashrt::apps
