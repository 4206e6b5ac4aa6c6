// Every kind of bad input ends with exit code 2 and a message that names the file and the field.
#include <bit>
#include <cmath>

#include "io/case_file.h"
#include "tests/apps/command_line.h"

namespace flashrt {
namespace {

// A safetensors file taken apart: header and data.
struct Parts {
  nlohmann::json header;
  std::string data;
  explicit Parts(const fs::path& path) {
    const std::string bytes = slurp(path);
    uint64_t n = 0;
    std::memcpy(&n, bytes.data(), 8);
    header = nlohmann::json::parse(bytes.substr(8, n));
    data = bytes.substr(8 + n);
  }
  void write(const fs::path& path) const {
    const std::string text = header.dump();
    const uint64_t n = text.size();
    spill(path, std::string(reinterpret_cast<const char*>(&n), 8) + text + data);
  }
  // The tensor's full name by its end.
  std::string name(const std::string& end) const {
    for (const auto& [key, value] : header.items()) {
      if (key.ends_with(end)) return key;
    }
    ADD_FAILURE() << "no tensor ends in " << end;
    return "";
  }
};

// Spoils a copy of the tiny checkpoint's weights and expects `inspect` to say what is wrong.
void expect_weights_refused(const std::function<void(const fs::path& file)>& spoil,
                            std::vector<std::string> words) {
  const fs::path copy = copy_of(tiny_checkpoint());
  spoil(copy / "model.safetensors");
  words.emplace_back(copy);  // of the file, or of the checkpoint when several are concerned
  expect_refused({"inspect", copy}, words);
}

TEST(BadWeights, Truncated) {
  expect_weights_refused([](const fs::path& f) { fs::resize_file(f, fs::file_size(f) - 100); }, {"bytes"});
  expect_weights_refused([](const fs::path& f) { fs::resize_file(f, 5); }, {});
  expect_weights_refused([](const fs::path& f) { fs::resize_file(f, 0); }, {});
  expect_weights_refused([](const fs::path& f) { spill(f, slurp(f) + "tail"); }, {"bytes"});
}

TEST(BadWeights, OversizedHeader) {
  for (uint64_t n : {uint64_t{1} << 40, ~uint64_t{0}, uint64_t{200'000'000}}) {
    expect_weights_refused(
        [&](const fs::path& f) {
          std::string bytes = slurp(f);
          std::memcpy(bytes.data(), &n, 8);
          spill(f, bytes);
        },
        {"header"});
  }
}

TEST(BadWeights, HeaderThatIsNoJson) {
  expect_weights_refused(
      [](const fs::path& f) {
        std::string bytes = slurp(f);
        bytes[20] = '\x01';
        spill(f, bytes);
      },
      {});
}

TEST(BadWeights, OverlappingOrMisalignedTensors) {
  for (int64_t shift : {-4, -1, 1, 4}) {
    std::string name;
    expect_weights_refused(
        [&](const fs::path& f) {
          Parts parts(f);
          name = parts.name("layers.0.mlp.down_proj.weight");
          auto& offsets = parts.header[name]["data_offsets"];
          offsets = {offsets[0].get<int64_t>() + shift, offsets[1].get<int64_t>() + shift};
          parts.write(f);
        },
        {"layers.0"});
  }
}

TEST(BadWeights, WrongType) {
  expect_weights_refused(
      [](const fs::path& f) {
        Parts parts(f);
        parts.header[parts.name("layers.0.mlp.down_proj.weight")]["dtype"] = "I32";
        parts.write(f);
      },
      {"down_proj.weight", "i32"});
  expect_weights_refused(
      [](const fs::path& f) {
        Parts parts(f);
        parts.header[parts.name("layers.0.mlp.down_proj.weight")]["dtype"] = "F7";
        parts.write(f);
      },
      {"down_proj.weight", "F7"});
}

TEST(BadWeights, WrongShape) {
  expect_weights_refused(
      [](const fs::path& f) {
        Parts parts(f);
        auto& shape = parts.header[parts.name("language_model.layers.0.mlp.down_proj.weight")]["shape"];
        std::swap(shape[0], shape[1]);
        parts.write(f);
      },
      {"down_proj.weight", "[64, 128]", "[128, 64]"});
}

// Every missing tensor is named, not only the first.
TEST(BadWeights, MissingTensorsAreAllNamed) {
  expect_weights_refused(
      [](const fs::path& f) {
        Parts parts(f);
        for (const char* end : {"language_model.layers.0.mlp.down_proj.weight", "action_out_proj.bias"}) {
          const std::string name = parts.name(end);
          parts.header[name + ".renamed"] = parts.header[name];
          parts.header.erase(name);
        }
        parts.write(f);
      },
      {"down_proj.weight", "action_out_proj.bias"});
}

TEST(BadWeights, MissingShard) {
  const fs::path copy = copy_of(FLASHRT_TEST_DATA "/policy/pi0_openpi");
  fs::remove(copy / "model-00002-of-00002.safetensors");
  expect_refused({"inspect", copy}, {"model-00002-of-00002.safetensors"});
}

TEST(BadWeights, ShardOutsideTheDirectory) {
  const fs::path copy = copy_of(FLASHRT_TEST_DATA "/policy/pi0_openpi");
  auto index = nlohmann::json::parse(slurp(copy / "model.safetensors.index.json"));
  index["weight_map"].begin().value() = "../model-00001-of-00002.safetensors";
  spill(copy / "model.safetensors.index.json", index.dump());
  expect_refused({"inspect", copy}, {"model.safetensors.index.json", "../model-00001"});
}

TEST(BadCheckpoint, NoSuchDirectory) {
  expect_refused({"inspect", scratch() / "nowhere"}, {"nowhere"});
  expect_refused({"inspect", FLASHRT_TEST_DATA "/image/rgb.png"}, {"rgb.png"});
  fs::create_directories(scratch() / "empty");
  expect_refused({"inspect", scratch() / "empty"}, {"empty"});
  expect_refused({"run", "--prompt", "x", "--image", "x.png"}, {"checkpoint"});
}

void expect_config_refused(const std::function<void(nlohmann::json&)>& spoil,
                           std::vector<std::string> words) {
  const fs::path copy = copy_of(tiny_checkpoint());
  auto config = nlohmann::json::parse(slurp(copy / "config.json"));
  spoil(config);
  spill(copy / "config.json", config.dump());
  words.emplace_back("config.json");
  expect_refused({"inspect", copy}, words);
}

TEST(BadConfig, NamesTheField) {
  expect_config_refused([](auto& c) { c["chunk_size"] = "ten"; }, {"chunk_size"});
  expect_config_refused([](auto& c) { c["chunk_size"] = 1.5; }, {"chunk_size"});
  expect_config_refused([](auto& c) { c["chunk_size"] = -3; }, {"chunk_size", "-3"});
  expect_config_refused([](auto& c) { c["chunk_size"] = 1e15; }, {"chunk_size"});
  expect_config_refused([](auto& c) { c["type"] = "act"; }, {"type", "act"});
  expect_config_refused([](auto& c) { c["vlm_config"]["text_config"]["num_hidden_layers"] = 100'000'000; },
                        {"num_hidden_layers"});
  expect_config_refused([](auto& c) { c["vlm_config"]["text_config"]["num_attention_heads"] = 0; },
                        {"num_attention_heads"});
}

TEST(BadConfig, BrokenJson) {
  const fs::path copy = copy_of(tiny_checkpoint());
  const std::string good = slurp(copy / "config.json");
  for (const std::string& bad : {good.substr(0, good.size() / 2), std::string(), std::string("[]"),
                                 std::string(100'000, '['), "{\"a\": 1, \"a\": 2}" + good}) {
    spill(copy / "config.json", bad);
    expect_refused({"inspect", copy}, {"config.json"});
  }
}

TEST(BadTokenizer, NamesTheFile) {
  const fs::path copy = copy_of(tiny_checkpoint());
  const std::string good = slurp(copy / "tokenizer.json");
  for (const std::string& bad :
       {good.substr(0, good.size() / 2), std::string("{}"), std::string("not json")}) {
    spill(copy / "tokenizer.json", bad);
    expect_refused(run_arguments(copy), {"tokenizer.json"});
  }
  fs::remove(copy / "tokenizer.json");
  expect_refused(run_arguments(copy), {"tokenizer", "--tokenizer"});
  const std::string model = slurp(FLASHRT_TEST_DATA "/tokenizer/gemma_like.model");
  spill(scratch() / "cut.model", model.substr(0, model.size() / 2));
  expect_refused(with(run_arguments(copy), {"--tokenizer", scratch() / "cut.model"}), {"cut.model"});
}

// Statistics of a file: `spoil` sees the f32 values of each of its tensors.
fs::path with_statistics(const std::function<void(const std::string&, float*, size_t)>& spoil) {
  const fs::path copy = copy_of(tiny_checkpoint());
  for (const auto& entry : fs::directory_iterator(copy)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("policy_") || !name.ends_with(".safetensors")) continue;
    Parts parts(entry.path());
    for (const auto& [key, value] : parts.header.items()) {
      if (key == "__metadata__") continue;
      const size_t begin = value["data_offsets"][0], end = value["data_offsets"][1];
      spoil(key, reinterpret_cast<float*>(parts.data.data() + begin), (end - begin) / sizeof(float));
    }
    parts.write(entry.path());
  }
  return copy;
}

TEST(BadStatistics, NotANumber) {
  const fs::path copy = with_statistics([](const std::string& name, float* v, size_t) {
    if (name.ends_with("q01")) v[0] = NAN;
  });
  expect_refused(run_arguments(copy), {"q01", ".safetensors"});
}

TEST(BadStatistics, QuantilesOutOfOrder) {
  const fs::path copy = with_statistics([](const std::string& name, float* v, size_t) {
    if (name.ends_with("q99")) v[1] = -1e6f;
  });
  expect_refused(run_arguments(copy), {"q99", ".safetensors"});
}

// A constant dimension is legal where the trainers handle it: the actions stay finite.
TEST(BadStatistics, EqualQuantilesAreAConstant) {
  const fs::path copy = with_statistics([](const std::string& name, float* v, size_t n) {
    if (name.ends_with("q01") || name.ends_with("q99")) std::fill(v, v + n, 0.25f);
  });
  auto arguments = replaced(run_arguments(copy), "--state", "0.25,0.25,0.25,0.25,0.25,0.25");
  const Ran ran = flashrt_run(with(arguments, {"--json"}));
  ASSERT_EQ(ran.code, 0) << ran.err;
  const nlohmann::json document = ran.json();
  for (const auto& row : document["actions"]) {
    for (double a : row) EXPECT_NEAR(a, 0.25, 1e-3);
  }
}

TEST(BadObservation, State) {
  const auto arguments = run_arguments(tiny_checkpoint());
  expect_refused(replaced(arguments, "--state", "1,2,3"), {"state", "6", "3"});
  expect_refused(replaced(arguments, "--state", "0,0,nan,0,0,0"), {"state[2]"});
  expect_refused(replaced(arguments, "--state", "0,0,0,inf,0,0"), {"state[3]"});
  expect_refused(replaced(arguments, "--state", "0,0,zero,0,0,0"), {"--state", "zero"});
  expect_refused(replaced(arguments, "--state", scratch() / "no.npy"), {"no.npy"});
}

TEST(BadObservation, Cameras) {
  const auto arguments = run_arguments(tiny_checkpoint());
  expect_refused(replaced(arguments, "--image", "ceiling=" FLASHRT_TEST_DATA "/image/rgb.png"),
                 {"ceiling", "camera0", "camera1"});
  expect_refused(with(arguments, {"--image", FLASHRT_TEST_DATA "/image/rgb.png"}), {"--image", "2"});
  expect_refused(with(arguments, {"--image", "camera0=" FLASHRT_TEST_DATA "/image/rgb.png"}),
                 {"camera0", "twice"});
}

TEST(BadObservation, Images) {
  const auto arguments = run_arguments(tiny_checkpoint());
  const std::string png = slurp(FLASHRT_TEST_DATA "/image/rgb.png"),
                    jpeg = slurp(FLASHRT_TEST_DATA "/image/444.jpg");
  const std::vector<std::pair<std::string, std::string>> bad = {{"cut.png", png.substr(0, png.size() / 2)},
                                                                {"cut.jpg", jpeg.substr(0, jpeg.size() / 2)},
                                                                {"words.png", "these are words"},
                                                                {"empty.jpg", ""}};
  for (const auto& [name, bytes] : bad) {
    spill(scratch() / name, bytes);
    expect_refused(replaced(arguments, "--image", scratch() / name), {name});
  }
  expect_refused(replaced(arguments, "--image", scratch() / "missing.png"), {"missing.png"});
  expect_refused(replaced(arguments, "--image", scratch()), {scratch().filename()});
}

TEST(BadObservation, Prompt) {
  const auto arguments = run_arguments(tiny_checkpoint());
  expect_refused(replaced(arguments, "--prompt", "   "), {"prompt is empty"});
  std::string flood;
  for (int i = 0; i < 300; ++i) flood += "pick up the block and ";
  const Ran ran = flashrt_run(replaced(arguments, "--prompt", flood));
  EXPECT_EQ(ran.code, 0) << "cut as the reference does";
  expect_words(ran.err, {"warning", "cut", "48 tokens"});
}

TEST(BadArguments, NameTheOption) {
  const auto arguments = run_arguments(tiny_checkpoint());
  expect_refused(with(arguments, {"--robot", "toaster"}), {"--robot", "toaster"});
  expect_refused(with(arguments, {"--precision", "fp3"}), {"--precision", "fp3", "bf16"});
  expect_refused(replaced(arguments, "--device", "abacus"), {"--device", "abacus"});
  expect_refused(with(arguments, {"--out", scratch() / "no" / "such" / "place.npy"}), {"place.npy"});
  expect_refused({"bench", tiny_checkpoint(), "--calls", "0"}, {"--calls"});
  expect_refused({"bench", "--random", "gpt"}, {"--random", "gpt"});
  expect_refused({"synth", scratch() / "s", "--family", "pi1"}, {"pi1"});
  expect_refused({"bogus"}, {});
  expect_refused({}, {"subcommand"});
}

TEST(BadCase, NamesTheTensor) {
  const std::string golden = FLASHRT_TEST_DATA "/policy/pi05_basic", file = scratch() / "case.safetensors";
  const auto spoiled = [&](const std::function<void(Parts&)>& spoil) {
    Parts parts(golden + "/case_0.safetensors");
    spoil(parts);
    parts.write(file);
    return std::vector<std::string>{"verify", golden, file, "--device", "cpu"};
  };
  expect_refused(spoiled([](Parts& p) { p.header["__metadata__"]["format"] = "other"; }),
                 {"case.safetensors", "format", "flashrt-case-1"});
  expect_refused(spoiled([](Parts& p) { p.header["in.noise"]["dtype"] = "I32"; }),
                 {"case.safetensors", "in.noise"});
  expect_refused(spoiled([](Parts& p) {
                   const int64_t at = p.header["in.token_ids"]["data_offsets"][0];
                   const int32_t huge = 1 << 20;
                   std::memcpy(p.data.data() + at, &huge, 4);
                 }),
                 {"in.token_ids", "1048576"});
  expect_refused(spoiled([](Parts& p) {
                   const int64_t at = p.header["out.actions"]["data_offsets"][0];
                   const float nan = NAN;
                   std::memcpy(p.data.data() + at, &nan, 4);
                 }),
                 {"case.safetensors", "out.actions"});
  expect_refused({"verify", golden, scratch() / "absent.safetensors"}, {"absent.safetensors"});
}

}  // namespace
}  // namespace flashrt
