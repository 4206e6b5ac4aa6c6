// flashrt run: images, a state and a prompt from files and arguments → one action chunk.
#include <fmt/core.h>

#include <charconv>
#include <random>

#include "apps/command.h"
#include "io/image_decode.h"
#include "io/npy.h"
#include "runtime/policy.h"

namespace flashrt::apps {

namespace {

struct Options {
  NetworkOptions network;
  DeviceOptions device;
  std::vector<std::string> images;
  std::string state, prompt, robot = "generic", tokenizer, out, noise;
  uint64_t seed = 0;
  int repeat = 1;
  bool json = false;
};

std::vector<float> parse_state(const std::string& text) {
  if (text.ends_with(".npy")) return read_npy(text).values;
  std::vector<float> values;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = CLI::detail::trim_copy(text.substr(begin, end - begin));
    float value = 0;
    const auto [stop, code] = std::from_chars(item.data(), item.data() + item.size(), value);
    if (code != std::errc{} || stop != item.data() + item.size()) fail("--state: '{}' is not a number", item);
    values.push_back(value);
    begin = end + 1;
  }
  return values;
}

void print_table(const ActionChunk& chunk) {
  for (int64_t t = 0; t < chunk.horizon; ++t) {
    fmt::print("{:>3} ", t);
    for (int64_t i = 0; i < chunk.dim; ++i) fmt::print(" {:>9.5f}", chunk.actions[size_t(t * chunk.dim + i)]);
    fmt::print("\n");
  }
}

int run(const Options& o) {
  PolicyCheckpoint checkpoint = load_policy_checkpoint(o.network.checkpoint);
  for (const std::string& warning : checkpoint.warnings) log_warn("{}", warning);
  if (!checkpoint.unknown.empty()) {
    log_warn("{} unknown tensors are ignored, the first is {} (see `flashrt inspect`)",
             checkpoint.unknown.size(), checkpoint.unknown[0]);
  }
  std::vector<Image> pictures;
  std::vector<std::string> names;
  const auto slots = find_robot(o.robot, checkpoint.config).cameras;
  for (const std::string& item : o.images) {
    const size_t equals = item.find('=');
    const std::string path = equals == item.npos ? item : item.substr(equals + 1);
    if (equals == item.npos && names.size() >= slots.size()) {
      fail("--image: more images than the robot's {} cameras", slots.size());
    }
    names.push_back(equals != item.npos ? item.substr(0, equals) : slots[names.size()].key);
    pictures.push_back(read_image(path));
  }
  std::vector<CameraImage> cameras;
  for (size_t i = 0; i < pictures.size(); ++i) {
    cameras.push_back({.camera = names[i],
                       .rgb = pictures[i].pixels.data(),
                       .width = pictures[i].width,
                       .height = pictures[i].height});
  }
  const std::vector<float> state = parse_state(o.state);
  const std::vector<float> noise = o.noise.empty() ? std::vector<float>{} : read_npy(o.noise).values;
  PolicySession session(std::move(checkpoint), o.device.open(),
                        {.robot = o.robot, .tokenizer = o.tokenizer, .steps = o.network.steps},
                        o.device.runner_options());
  ActionChunk chunk;
  for (int i = 0; i < o.repeat; ++i) {
    chunk =
        session.act({.cameras = cameras, .state = state, .prompt = o.prompt, .seed = o.seed, .noise = noise});
  }
  const int64_t shape[] = {chunk.horizon, chunk.dim};
  if (!o.out.empty()) write_npy(o.out, shape, chunk.actions);
  const PolicyTimes& t = chunk.times;
  if (o.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (int64_t r = 0; r < chunk.horizon; ++r) {
      rows.push_back(std::vector<float>(chunk.actions.begin() + r * chunk.dim,
                                        chunk.actions.begin() + (r + 1) * chunk.dim));
    }
    print_json({{"actions", rows},
                {"horizon", chunk.horizon},
                {"action_dim", chunk.dim},
                {"seed", o.seed},
                {"device", session.engine().backend().name()},
                {"precision", name_of(session.engine().backend().compute())},
                {"times_ms",
                 {{"preprocess", t.preprocess},
                  {"vision", t.vision},
                  {"prefix", t.prefix},
                  {"action", t.action},
                  {"post", t.post},
                  {"total", t.total}}}});
  } else {
    if (o.out.empty()) {
      print_table(chunk);
    } else {
      fmt::print("wrote {} [{}, {}]\n", o.out, chunk.horizon, chunk.dim);
    }
    fmt::print(
        stderr,
        "{}: {:.2f} ms (preprocess {:.2f}, vision {:.2f}, prefix {:.2f}, action {:.2f}, post {:.2f})\n",
        session.engine().backend().name(), t.total, t.preprocess, t.vision, t.prefix, t.action, t.post);
  }
  return 0;
}

}  // namespace

void add_run(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("run", "Run a policy once: images, state and prompt → actions");
  o->network.add_to(command, false);
  command
      .add_option("--image", o->images,
                  "PNG or JPEG of a camera, as FILE in the order of the cameras or as CAMERA=FILE; repeat")
      ->required();
  command.add_option("--state", o->state, "Robot state: comma-separated numbers, or a .npy file");
  command.add_option("--prompt", o->prompt, "What the robot should do")->required();
  command.add_option("--robot", o->robot, "Input and output transforms")
      ->capture_default_str()
      ->check(CLI::IsMember([] {
        std::vector<std::string> names;
        for (std::string_view name : robot_names()) names.emplace_back(name);
        return names;
      }()));
  command.add_option("--tokenizer", o->tokenizer,
                     "tokenizer.model or tokenizer.json, when the checkpoint has none");
  command.add_option("--seed", o->seed, "Seed of the noise")->capture_default_str();
  command.add_option("--noise", o->noise, "The noise itself, a .npy file [horizon, action_dim]");
  command.add_option("--repeat", o->repeat, "Calls; the last one is reported")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command.add_option("--out", o->out, "Write the actions to this .npy file instead of printing a table");
  command.add_flag("--json", o->json, "Print JSON");
  o->device.add_to(command);
  on_run(command, [o] { return run(*o); });
}

}  // namespace flashrt::apps
