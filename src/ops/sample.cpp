// Definition of drawing a token. Weights are integers, so that sums have no order.
#include "ops/sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/threads.h"

#pragma GCC optimize("fp-contract=off")

namespace flashrt {

namespace {

// The largest key such that the amounts of the candidates with keys from there up reach `need` ≥ 1;
// candidates are those with keys of at least `from`, and all of them reach it.
template <class Amount>
uint64_t threshold(std::span<const float> logits, uint64_t from, uint64_t need, const Amount& amount) {
  uint64_t key = 0;
  for (int shift = 48; shift >= 0; shift -= 8) {
    uint64_t sums[256] = {};
    for (size_t i = 0; i < logits.size(); ++i) {
      const uint64_t k = candidate_key(logits[i], int32_t(i));
      if (k >= from && k >> shift >> 8 == key >> shift >> 8) sums[k >> shift & 255] += amount(logits[i]);
    }
    int digit = 255;
    for (; sums[digit] < need; --digit) need -= sums[digit];
    key |= uint64_t(digit) << shift;
  }
  return key;
}

// The least integer that is no smaller than fraction · total.
uint64_t part_of(uint64_t total, float fraction) {
  return uint64_t(std::ceil(double(total) * double(fraction)));
}

int32_t draw(std::span<const float> logits, const SamplingSettings& s, int32_t likeliest, int32_t position) {
  if (s.scale == 0) return likeliest;
  const float top = logits[size_t(likeliest)];
  const auto weight = [&](float logit) { return candidate_weight(logit, top, s.scale); };
  const auto sum = [&](uint64_t from, uint64_t least) {
    uint64_t total = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      const uint64_t w = weight(logits[i]);
      if (candidate_key(logits[i], int32_t(i)) >= from && w >= least) total += w;
    }
    return total;
  };
  uint64_t from = 0;
  if (s.top_k > 0 && size_t(s.top_k) < logits.size())
    from = threshold(logits, 0, uint64_t(s.top_k), [](float) { return uint64_t{1}; });
  if (s.top_p < 1) {
    const uint64_t need = std::max<uint64_t>(part_of(sum(from, 0), s.top_p), 1);
    from = threshold(logits, from, need, weight);
  }
  const uint64_t least = part_of(kLargestWeight, s.min_p), total = sum(from, least);
  const PhiloxWords random = philox(uint64_t(s.seed[1]) << 32 | s.seed[0], uint64_t(position));
  __extension__ using Wide = unsigned __int128;
  uint64_t left = uint64_t(Wide(uint64_t(random.word[0]) << 32 | random.word[1]) * total >> 64);
  for (size_t i = 0; i < logits.size(); ++i) {
    const uint64_t w = weight(logits[i]);
    if (candidate_key(logits[i], int32_t(i)) < from || w < least) continue;
    if (left < w) return int32_t(i);
    left -= w;
  }
  return likeliest;  // every logit is −infinity
}

void reference(RefCall& call) {
  const int64_t count = call.in_shape(0).cols;
  const float *logits = call.f32(0), *bias = call.f32(1);
  const int32_t* seen = call.i32(2);
  const int32_t position = *call.i32(5);
  SamplingSettings s;
  std::memcpy(&s, call.raw(3), sizeof s);
  const bool failed =
      std::any_of(logits, logits + count, [](float v) { return std::isnan(v) || v == INFINITY; });
  float* adjusted = thread_scratch(count);
  for (int64_t i = 0; i < count; ++i) adjusted[i] = adjusted_logit(logits[i], seen[i], bias[i], s);
  const int32_t likeliest = int32_t(std::max_element(adjusted, adjusted + count) - adjusted);
  const int32_t token = failed ? 0 : draw({adjusted, size_t(count)}, s, likeliest, position);
  const float top = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(double(logits[i]) - top);
  *static_cast<int32_t*>(call.raw_out(0)) = failed ? -1 : token;
  *call.out(1) = float(double(logits[token]) - top - std::log(sum));
  *static_cast<int32_t*>(call.raw_out(2)) = token;
  *static_cast<int32_t*>(call.raw_out(3)) = position + 1;
  static_cast<int32_t*>(call.raw_out(4))[token] += 2;
}

}  // namespace

const OpDef kSampleOp{.name = "sample", .reference = reference};

NextToken sample(Tensor logits, Tensor bias, Tensor seen, Tensor settings, Tensor ids, Tensor position,
                 At at) {
  const Shape row = logits.shape();
  require(row.rows == 1 && logits.dtype() == DType::f32, at, "sample: logits must be f32 [1, vocabulary]");
  require(row.cols <= kMostSampled, at, "sample: at most {} tokens, found {}", kMostSampled, row.cols);
  require(bias.shape() == row && seen.shape() == row, at, "sample: bias and seen have a value per token");
  require(settings.shape() == Shape{1, kSamplingWords}, at, "sample: settings are {} words", kSamplingWords);
  require(ids.shape() == Shape{1, 1} && position.shape() == Shape{1, 1}, at, "sample: one id, one position");
  Program& program = *logits.program;
  const NextToken next{program.temp({1, 1}, DType::i32), program.temp({1, 1}, DType::f32)};
  program.record(kSampleOp, {logits, bias, seen, settings, ids, position},
                 {next.token, next.log_probability, program.version(ids), program.version(position),
                  program.version(seen)},
                 0, at);
  return next;
}

}  // namespace flashrt
