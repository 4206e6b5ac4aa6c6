// Every language model, whatever its weights' format, has an implementation of every line and a place for
// every weight on every generation of GPUs that the build has device code for; checked without a GPU.
#include <gtest/gtest.h>

#include <filesystem>

#include "io/lm_checkpoint.h"
#include "models/language_model.h"
#include "ops/fusion.h"
#include "ops/unpack.h"
#include "runtime/weight_formats.h"
#ifdef FLASHRT_WITH_CUDA
#include "cuda/executor.h"
#endif

namespace flashrt {
namespace {

std::vector<std::string> all_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FLASHRT_TEST_DATA "/lm"))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

class DeviceLines : public testing::TestWithParam<std::string> {};

#ifdef FLASHRT_WITH_CUDA

// What the runtime does to a program before it reaches the device.
void expect_placed(const LmConfig& config, const WeightSource& source, DType compute, int64_t rows, int sm) {
  const cuda::Device device{.sm = sm, .processors = 132, .shared_bytes = 227 * 1024};
  Program program(compute);
  record_language_model(program, config, source, {.rows = rows, .capacity = 140, .logits = rows <= 1});
  fold(program);
  drop_dead(program);
  const auto supported = [&](const Program& p, const Line& line) {
    return cuda::choose(p, line, device) != nullptr;
  };
  unpack_weights(program, supported);
  fuse(program, kPatterns, supported);
  for (const Line& line : program.lines) {
    EXPECT_TRUE(supported(program, line)) << to_string(line.at) << " " << line.op->name;
    for (int id : line.in) {
      if (id < 0 || program.info(program.root(id)).kind != Kind::weight) continue;
      const TensorInfo& w = program.info(program.root(id));
      EXPECT_GT(cuda::device_bytes(*w.weight, w.dtype), 0u) << w.name;
    }
  }
}

TEST_P(DeviceLines, HaveAnImplementation) {
  const std::string path = FLASHRT_TEST_DATA "/lm/" + GetParam();
  const LmCheckpoint checkpoint = load_lm_checkpoint(path);
  std::vector<std::string> formats = {""};
  if (checkpoint.packed.empty()) formats.insert(formats.end(), {"fp8", "int8", "int4", "nvfp4"});
  for (const std::string& format : formats) {
    const WeightSource source = lm_weights(checkpoint, format);
    for (const DType compute : {DType::f32, DType::bf16, DType::f16}) {
      for (const int64_t rows : {1, 16, 128}) {
        for (const int sm : {80, 90}) {
          SCOPED_TRACE(fmt::format("{} {} rows {} sm_{}", format, name_of(compute), rows, sm));
          expect_placed(checkpoint.config, source, compute, rows, sm);
        }
      }
    }
  }
}

#else

TEST_P(DeviceLines, HaveAnImplementation) { GTEST_SKIP() << "a CPU build"; }

#endif

INSTANTIATE_TEST_SUITE_P(Models, DeviceLines, testing::ValuesIn(all_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace flashrt
