// Decoding as one persistent launch gives what its lines give one by one, and the same again every time; and
// its finder knows which programs it may take.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "io/lm_config.h"
#include "runtime/policy_engine.h"
#include "runtime/text_generator.h"
#ifdef FLASHRT_WITH_CUDA
#include "cuda/executor.h"
#include "cuda/token_layers.h"
#include "ops/fusion.h"
#endif

namespace flashrt {
namespace {

struct Case {
  const char* name;
  LmConfig config;
};

LmConfig config_of(int64_t width, int64_t mlp, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  LmConfig c;
  c.family = "llama";
  c.layers = 3, c.width = width, c.mlp = mlp, c.heads = heads, c.kv_heads = kv_heads, c.head_dim = head_dim;
  c.vocab = 514, c.positions = 4096, c.norm_epsilon = 1e-5;
  c.window.assign(3, 0);
  return c;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  all.push_back({"plain", config_of(256, 520, 4, 2, 64)});
  all.push_back({"one_key_head", config_of(384, 264, 8, 1, 128)});
  all.push_back({"biases_tied", config_of(512, 1000, 14, 2, 64)});
  all.back().config.qkv_bias = all.back().config.tied = true;
  all.push_back({"windows", config_of(256, 768, 4, 4, 64)});
  all.back().config.window = {0, 40, 0};
  all.push_back({"head_norms", config_of(1024, 3072, 16, 8, 128)});
  all.back().config.qk_norm = true, all.back().config.family = "qwen3";
  all.push_back({"all_experts", config_of(256, 64, 4, 2, 64)});
  LmConfig& experts = all.back().config;
  experts.family = "qwen3_moe", experts.qk_norm = true, experts.experts = experts.experts_used = 8;
  // Where two experts are as good as each other, rounding decides. One layer: its keys do not depend on its
  // experts, so a token that goes another way changes no other.
  all.push_back({"chosen_experts", experts});
  LmConfig& chosen = all.back().config;
  chosen.experts = 16, chosen.experts_used = 4, chosen.layers = 1;
  chosen.window.resize(1);
  return all;
}

// Matrices N(0, 1/columns) or so, norms around 1; distinct, in bf16.
WeightSource random_weights(const LmConfig& config) {
  auto stored = std::make_shared<std::map<std::string, std::pair<Shape, std::vector<uint16_t>>>>();
  uint64_t state = 7;
  for (const LmWeightSpec& spec : lm_weight_specs(config)) {
    const Shape shape = spec.shape.size() < 2 ? Shape{1, spec.shape[0]} : Shape{spec.shape[0], spec.shape[1]};
    std::vector<uint16_t> values(size_t(shape.size()));
    const bool norm = shape.rows == 1 && spec.name.find("norm") != spec.name.npos;
    for (uint16_t& v : values) {
      float sum = -6;  // of twelve uniform numbers
      for (int i = 0; i < 12; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += float(state >> 40) / float(1 << 24);
      }
      v = f32_to_bf16(norm ? 1 + 0.2f * sum : sum / std::sqrt(float(shape.cols)));
    }
    stored->emplace(spec.name, std::pair(shape, std::move(values)));
  }
  return [stored](const std::string& name) -> Weight {
    const auto& [shape, values] = stored->at(name);
    return {
        .name = name,
        .shape = shape,
        .parts = {{reinterpret_cast<const std::byte*>(values.data()), DType::bf16, shape.rows, shape.cols}}};
  };
}

class TokenStackTest : public testing::TestWithParam<Case> {};

// Of every 9th token.
std::vector<std::vector<float>> logits(LmEngine& engine, int64_t tokens) {
  std::vector<std::vector<float>> all;
  for (int64_t i = 0; i < tokens; ++i) {
    const auto row = engine.extend(std::vector<int32_t>{int32_t(i * 37 % 500 + 3)});
    if (i % 9 == 0) all.emplace_back(row.begin(), row.end());
  }
  return all;
}

TEST_P(TokenStackTest, EqualsItsLines) {
  std::shared_ptr<Backend> backend = Backend::open("auto", Precision::bf16);
  if (!backend->on_gpu()) GTEST_SKIP() << "no GPU";
  const LmConfig& config = GetParam().config;
  const WeightSource weights = random_weights(config);
  LmEngine one(config, weights, backend, 150);
  LmEngine lines(config, weights, backend, 150, {.force = {{"token_stack", "-persistent"}}});
  if (one.likeliest_runner().launch_count() == lines.likeliest_runner().launch_count())
    GTEST_SKIP() << "this GPU runs the lines one by one";
  const auto first = logits(one, 140), other = logits(lines, 140);
  std::vector<double> differences;
  for (size_t i = 0; i < first.size(); ++i) differences.push_back(compare(first[i], other[i]).relative);
  std::ranges::sort(differences);
  ASSERT_EQ(differences.size(), 16u);
  const size_t other_way = config.experts > config.experts_used ? 2 : 0;  // tokens that may go another way
  EXPECT_LT(differences[15 - other_way], 2e-2);
  for (int repeat = 0; repeat < 2; ++repeat) {
    one.rewind(0);
    const auto again = logits(one, 140);
    for (size_t i = 0; i < first.size(); ++i) {
      ASSERT_EQ(std::memcmp(again[i].data(), first[i].data(), first[i].size() * sizeof(float)), 0)
          << "repeat " << repeat << " row " << i;
    }
  }
}

#ifdef FLASHRT_WITH_CUDA

Program& decode_program(Program& program, const LmConfig& config, const WeightSource& weights) {
  const cuda::Device device{.sm = 90, .processors = 132, .shared_bytes = 227 * 1024};
  record_language_model(program, config, weights, {.rows = 1, .capacity = 150, .logits = true});
  fold(program);
  drop_dead(program);
  fuse(program, kPatterns,
       [&](const Program& p, const Line& line) { return cuda::choose(p, line, device) != nullptr; });
  return program;
}

TEST_P(TokenStackTest, IsFound) {
  const LmConfig& config = GetParam().config;
  const WeightSource weights = random_weights(config);
  Program program(DType::bf16);
  decode_program(program, config, weights);
  const auto found = cuda::find_token_layers(program);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->first, 0u);
  EXPECT_EQ(found->count, program.lines.size());
  EXPECT_EQ(found->shape.layers, config.layers);
  EXPECT_EQ(found->shape.mlp, config.mlp);
  EXPECT_EQ(found->shape.experts, config.experts);
  TokenStackParams params{};
  TokenLaunch launch{};
  EXPECT_TRUE(plan_token_stack(found->shape, 132, &params, &launch));
  EXPECT_LE(launch.shared_bytes, 227u * 1024);
}

TEST(TokenStack, LeavesWhatItDoesNotCompute) {
  LmConfig config = config_of(256, 520, 4, 2, 64);
  config.mlp_bias = true;
  const WeightSource weights = random_weights(config);
  Program program(DType::bf16);
  EXPECT_FALSE(cuda::find_token_layers(decode_program(program, config, weights)));
  Program wide(DType::f32);
  LmConfig plain = config_of(256, 520, 4, 2, 64);
  const WeightSource plain_weights = random_weights(plain);
  EXPECT_FALSE(cuda::find_token_layers(decode_program(wide, plain, plain_weights)));
  TokenStackParams params{};
  TokenLaunch launch{};
  const TokenShape shape{.layers = 3,
                         .width = 256,
                         .mlp = 520,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 96,
                         .vocabulary = 514,
                         .capacity = 100};
  EXPECT_FALSE(plan_token_stack(shape, 132, &params, &launch));
}

// Every unit of every product belongs to one block, and what is left over is spread.
TEST(TokenStack, BlocksShareTheWork) {
  TokenStackParams p{};
  TokenLaunch launch{};
  const TokenShape shape{.layers = 32,
                         .width = 4096,
                         .mlp = 11008,
                         .heads = 32,
                         .kv_heads = 32,
                         .head_dim = 128,
                         .vocabulary = 32000,
                         .capacity = 1280};
  ASSERT_TRUE(plan_token_stack(shape, 132, &p, &launch));
  std::vector<int64_t> bytes(launch.grid, 0);
  for (int work : {kTokenQkv, kTokenOut, kTokenGateUp, kTokenDown}) {
    const TokenProduct& q = p.product[work];
    EXPECT_EQ(q.last_columns + (q.stages - 1) * kTokenStageColumns, q.columns);
    for (int unit = 0; unit < q.units; ++unit)
      bytes[size_t((unit + q.shift) % int(launch.grid))] += 2 * q.row_bytes;
  }
  const auto [least, most] = std::ranges::minmax(bytes);
  EXPECT_LT(double(most) / double(least), 1.03);
}

#endif

INSTANTIATE_TEST_SUITE_P(Models, TokenStackTest, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace flashrt
