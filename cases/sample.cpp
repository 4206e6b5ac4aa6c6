// The choice of a token: the likeliest, and drawn ones with every filter, over vocabularies of one block and
// of many, with equal logits at the thresholds.
#include "ops/sample.h"

#include <cmath>
#include <cstring>

#include "cases/all.h"

namespace flashrt {

namespace {

// N(0, spread²), rounded to multiples of `step` where that is not 0, so that many are equal.
Tensor logits_of(CaseRecorder& c, int64_t vocab, float spread, float step) {
  return c.filled({1, vocab}, [=](std::span<float> values) {
    fill_normal(std::as_writable_bytes(values), DType::f32, uint64_t(vocab), spread, 0);
    if (step > 0) {
      for (float& v : values) v = std::round(v / step) * step;
    }
  });
}

Case likeliest_case(int64_t vocab, float step) {
  return {
      .op = "next_token", .name = fmt::format("of {} step {}", vocab, step), .record = [=](CaseRecorder& c) {
        next_token(logits_of(c, vocab, 2, step), c.integer(3), c.integer(41));
      }};
}

struct Filters {
  int32_t top_k = 0;
  float top_p = 1, min_p = 0;
};

Case sample_case(int64_t vocab, float temperature, Filters f, float spread = 2, float step = 0,
                 bool penalties = false) {
  const SamplingSettings s{.scale = temperature > 0 ? 0x1p24f * 1.442695f / temperature : 0,
                           .top_k = f.top_k,
                           .top_p = f.top_p,
                           .min_p = f.min_p,
                           .above_zero = penalties ? 1.3f : 1,
                           .below_zero = penalties ? 1 / 1.3f : 1,
                           .presence = penalties ? 0.4f : 0,
                           .frequency = penalties ? 0.3f : 0,
                           .seed = {uint32_t(vocab), 7}};
  return {.op = "sample",
          .name = fmt::format("of {} spread {} step {} temperature {} top_k {} top_p {} min_p {}{}", vocab,
                              spread, step, temperature, f.top_k, f.top_p, f.min_p,
                              penalties ? ", penalties" : ""),
          .record =
              [=](CaseRecorder& c) {
                std::vector<int32_t> words(kSamplingWords);
                std::memcpy(words.data(), &s, sizeof s);
                sample(logits_of(c, vocab, spread, step),
                       c.normal_of(DType::f32, {1, vocab}, penalties ? 0.1f : 0),
                       c.integers({1, vocab}, 0, penalties ? 5 : 0), c.integers({1, kSamplingWords}, words),
                       c.integer(3), c.integer(int32_t(vocab % 1000)));
              },
          .tolerance_f32 = 64};
}

}  // namespace

std::vector<Case> sample_cases() {
  std::vector<Case> cases{likeliest_case(1, 0), likeliest_case(777, 0.5f), likeliest_case(151936, 1)};
  for (const int64_t vocab : {1, 7, 500, 4096, 4097, 32000, 151936, 262208}) {
    cases.push_back(sample_case(vocab, 0, {}, 2, 0, true));
    cases.push_back(sample_case(vocab, 1, {}));
    cases.push_back(sample_case(vocab, 0.7f, {.top_k = 20, .top_p = 0.8f, .min_p = 0.05f}, 3, 0, true));
  }
  for (const float step : {0.f, 0.25f, 40.f}) {
    cases.push_back(sample_case(32000, 0.6f, {.top_k = 50}, 3, step));
    cases.push_back(sample_case(32000, 1.3f, {.top_p = 0.95f}, 3, step));
    cases.push_back(sample_case(32000, 2, {.top_k = 31000, .top_p = 0.99f}, 20, step));
    cases.push_back(sample_case(32000, 1, {.min_p = 0.2f}, 1, step, true));
    cases.push_back(sample_case(32000, 0.05f, {.top_k = 3, .top_p = 0}, 500, step));
  }
  for (const int64_t vocab : {128256, 151936}) {
    cases.push_back(likeliest_case(vocab, 0));
    cases.push_back(sample_case(vocab, 1, {}));
    cases.push_back(sample_case(vocab, 0.7f, {.top_k = 20, .top_p = 0.8f}));
    cases.push_back(sample_case(vocab, 0.7f, {.top_p = 0.95f}, 2, 0, true));
    for (size_t i = cases.size() - 4; i < cases.size(); ++i) cases[i].bench = true;
  }
  return cases;
}

}  // namespace flashrt
