// Options, policy and seeds of the tabletop commands.
#include "apps/tabletop.h"

#include "runtime/policy.h"

namespace flashrt::apps {

namespace {

constexpr int64_t kPromptBucket = 16, kLongestPrompt = 64;  // tokens

// The session as a policy of the world; the noise of a call is seeded by the episode and the step.
struct SessionPolicy {
  std::shared_ptr<PolicySession> session;

  std::span<const float> operator()(const tabletop::Observation& o) const {
    const CameraImage cameras[] = {
        {.camera = "top", .rgb = o.top.data(), .width = o.image_size, .height = o.image_size},
        {.camera = "wrist", .rgb = o.wrist.data(), .width = o.image_size, .height = o.image_size}};
    const uint64_t noise = o.seed * tabletop::kTimeLimit + uint64_t(o.step);
    return session->act({.cameras = cameras, .state = o.state, .prompt = o.prompt, .seed = noise}).actions;
  }
};

TabletopPolicy checkpoint_policy(const TabletopOptions& o) {
  PolicyCheckpoint checkpoint = load_policy_checkpoint(o.checkpoint);
  for (const std::string& warning : checkpoint.warnings) log_warn("{}", warning);
  const auto session = std::make_shared<PolicySession>(std::move(checkpoint), o.device.open(),
                                                       PolicyOptions{}, o.device.runner_options());
  if (session->state_dim() != tabletop::kStateDim || session->action_dim() != tabletop::kActionDim) {
    fail("{}: {} state values and {} actions, the tabletop has {} and {}", o.checkpoint, session->state_dim(),
         session->action_dim(), tabletop::kStateDim, tabletop::kActionDim);
  }
  const Backend& backend = session->engine().backend();
  TabletopPolicy policy{
      SessionPolicy{session},
      fmt::format("{} in {} on {}", o.checkpoint, name_of(backend.compute()), backend.name()),
      int(session->config().vision.image_size), int(session->config().executed_actions)};
  // Programs of the usual prompt lengths are built now, so that building is not in the latencies.
  const int64_t longest = std::min<int64_t>(session->config().max_prompt_tokens, kLongestPrompt);
  for (int64_t tokens = kPromptBucket; tokens <= longest; tokens += kPromptBucket) {
    session->prepare(tabletop::kCameras, tokens);
  }
  return policy;
}

}  // namespace

void add_tabletop_options(CLI::App& command, TabletopOptions& o) {
  command.add_option("--episodes", o.episodes, "Episodes to run")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command.add_option("--seed", o.seed, "First seed; the families take turns")->capture_default_str();
  command.add_option("--task", o.task, "Only this family: place, push, stack, beside or lift");
  command.add_option("--policy", o.policy, "What acts: the trained checkpoint, or the scripted expert")
      ->check(CLI::IsMember({"checkpoint", "expert"}))
      ->capture_default_str();
  command.add_option("--checkpoint", o.checkpoint, "Directory of the policy")->capture_default_str();
  command
      .add_option(
          "--execute", o.loop.execute,
          "Actions of a chunk executed before replanning (0: the checkpoint's n_action_steps, else half)")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command.add_flag("--blank-images", o.loop.blank_images, "Control: show the policy grey pictures");
  command.add_flag("--swap-prompts", o.loop.swap_prompts, "Control: give it the words for another object");
  o.device.add_to(command);
}

TabletopPolicy load_tabletop_policy(TabletopOptions& o) {
  if (o.policy == "expert" && (o.loop.blank_images || o.loop.swap_prompts)) {
    fail("--blank-images and --swap-prompts need a policy that looks and reads; the expert does neither");
  }
  TabletopPolicy policy = o.policy == "expert"
                              ? TabletopPolicy{tabletop::expert_policy(), "the scripted expert"}
                              : checkpoint_policy(o);
  o.loop.image_size = policy.image_size;
  if (o.loop.execute == 0) o.loop.execute = policy.execute;
  return policy;
}

std::vector<uint64_t> tabletop_seeds(const TabletopOptions& o) {
  tabletop::Family family{};
  if (!o.task.empty() && !tabletop::parse_family(o.task, family)) {
    fail("--task: expected place, push, stack, beside or lift, found '{}'", o.task);
  }
  std::vector<uint64_t> seeds;
  for (uint64_t seed = o.seed; int(seeds.size()) < o.episodes; ++seed) {
    if (seed >= tabletop::kFirstTrainingSeed) {
      fail("--seed {} with --episodes {}: seeds from {} on are training data; use smaller ones", o.seed,
           o.episodes, tabletop::kFirstTrainingSeed);
    }
    if (o.task.empty() || seed % tabletop::kFamilies == uint64_t(family)) seeds.push_back(seed);
  }
  return seeds;
}

Run with_input_errors(Run body) {
  return [body = std::move(body)] {
    try {
      return body();
    } catch (const Error&) {
      throw;
    } catch (const std::runtime_error& e) {
      throw Error(ErrorKind::input, e.what());
    }
  };
}

}  // namespace flashrt::apps
