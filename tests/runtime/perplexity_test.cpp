// Sliding-window perplexity against what transformers computed, and against one run over the whole text.
#include "runtime/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "io/json.h"
#include "runtime/text_generator.h"

namespace flashrt {
namespace {

struct Tiny {
  explicit Tiny(const std::string& name) : checkpoint(load_lm_checkpoint(FLASHRT_TEST_DATA "/lm/" + name)) {}

  LmCheckpoint checkpoint;
  std::shared_ptr<Backend> backend = Backend::open("cpu", Precision::f32);

  Perplexity measure(std::span<const int32_t> ids, int64_t context, int64_t stride) {
    return measure_perplexity(checkpoint.config, checkpoint_weights(checkpoint), backend, ids,
                              {.context = context, .stride = stride}, {.poison = true});
  }
};

TEST(Perplexity, EqualsTransformers) {
  const JsonDocument golden = JsonDocument::read(FLASHRT_TEST_DATA "/lm_perplexity.json");
  const auto models = golden.root().at("random").elements();
  ASSERT_GE(models.size(), 4u);
  for (const JsonNode& model : models) {
    Tiny tiny(model.at("model").text());
    std::vector<int32_t> ids;
    for (const JsonNode& id : model.at("ids").elements()) ids.push_back(int32_t(id.integer(0, 60)));
    for (const JsonNode& run : model.at("runs").elements()) {
      const int64_t context = run.at("context").integer(2, 64), stride = run.at("stride").integer(1, 64);
      SCOPED_TRACE(fmt::format("{}: {} every {}", model.at("model").text(), context, stride));
      const Perplexity p = tiny.measure(ids, context, stride);
      EXPECT_EQ(p.scored, run.at("scored").integer(1, 64));
      if (stride < context) {
        EXPECT_EQ(p.scored, int64_t(ids.size()) - 1);
      }
      EXPECT_NEAR(p.nll / run.at("nll").number(), 1, 1e-5);
      EXPECT_NEAR(p.value() / run.at("perplexity").number(), 1, 1e-5);
    }
  }
}

// A window that holds the whole text: the logits of one run, each token scored by the row before it.
TEST(Perplexity, OneWindowIsOneRun) {
  Tiny tiny("qwen3_tied");
  const std::vector<int32_t> ids{5, 17, 3, 44, 44, 9, 60, 1, 30};
  LmEngine engine(tiny.checkpoint.config, checkpoint_weights(tiny.checkpoint), tiny.backend, 64);
  const std::vector<float> logits = engine.all_logits(ids);
  double nll = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    double sum = 0;
    for (size_t v = 0; v < 61; ++v) sum += std::exp(double(logits[i * 61 + v]));
    nll += std::log(sum) - double(logits[i * 61 + size_t(ids[i + 1])]);
  }
  for (const int64_t stride : {64, 32, 1}) {
    const Perplexity p = tiny.measure(ids, 64, stride);
    EXPECT_EQ(p.windows, 1);
    EXPECT_NEAR(p.nll, nll, 1e-4);
  }
}

TEST(Perplexity, RefusesWhatHasNoMeaning) {
  Tiny tiny("qwen3_tied");
  const std::vector<int32_t> ids{5, 17, 3};
  EXPECT_THROW(tiny.measure(ids, 1, 1), Error);
  EXPECT_THROW(tiny.measure(ids, 8, 0), Error);
  EXPECT_THROW(tiny.measure(ids, 8, 9), Error);
  EXPECT_THROW(tiny.measure(std::span(ids).first(1), 8, 8), Error);
  const std::vector<int32_t> outside{5, 61};
  EXPECT_THROW(tiny.measure(outside, 8, 8), Error);
  EXPECT_THROW(Tiny("gpt2_odd_heads").measure(ids, 141, 141), Error) << "140 learned positions";
}

}  // namespace
}  // namespace flashrt
