// Drawing a token: every thread keeps eight logits, the blocks agree on thresholds digit by digit, and the
// block whose part of the sum the random number falls into writes the token. Exactly the definition's result,
// for weights are integers.
#include <cmath>

#include "cuda/kernels/common/pdl.cuh"
#include "cuda/kernels/common/sample_params.h"

namespace flashrt {
namespace {

using Part = SampleScratch::Part;
using Digits = SampleScratch::Digits;
using Amount = unsigned long long;
constexpr int kWarps = kSampleThreads / 32;

__device__ __forceinline__ Part join(const Part& a, const Part& b) {
  const bool first = a.top > b.top || (a.top == b.top && a.at < b.at);
  const float raw = fmaxf(a.raw_top, b.raw_top);
  return {first ? a.top : b.top, raw,
          (a.raw_top == raw ? a.raw_sum : a.raw_sum * expf(a.raw_top - raw)) +
              (b.raw_top == raw ? b.raw_sum : b.raw_sum * expf(b.raw_top - raw)),
          first ? a.at : b.at, a.failed | b.failed};
}
__device__ __forceinline__ Part nothing() { return {-INFINITY, -INFINITY, 0.f, 0x7fffffff, 0}; }

__device__ __forceinline__ Part over_warp(Part v) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) {
    v = join(v, {__shfl_xor_sync(~0u, v.top, o), __shfl_xor_sync(~0u, v.raw_top, o),
                 __shfl_xor_sync(~0u, v.raw_sum, o), __shfl_xor_sync(~0u, v.at, o),
                 __shfl_xor_sync(~0u, v.failed, o)});
  }
  return v;
}
__device__ __forceinline__ Amount over_warp(Amount v) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
  return v;
}

struct Shared {
  Part parts[kWarps];
  Amount sums[kWarps];
  Digits digits;
  Amount need;  // of the digit found
  int digit;
  bool done;
};

struct Draw {
  const SampleParams& p;
  Shared& shared;
  SamplingSettings s;
  int first;  // this thread's tokens begin here
  float logit[kSampleOwn];
  float top = 0.f;
  int arrivals = 0, passes = 0, totals = 0;

  __device__ int lane() const { return int(threadIdx.x % 32); }
  __device__ int warp() const { return int(threadIdx.x / 32); }
  __device__ bool has(int j) const { return first + j < p.count; }

  // Waits until every block has come here; what they wrote before is visible.
  __device__ void meet() {
    arrivals += int(gridDim.x);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicAdd(&p.scratch->arrived, 1);
      while (*const_cast<volatile int*>(&p.scratch->arrived) < arrivals) {
      }
      __threadfence();
    }
    __syncthreads();
  }

  // The sum over the block and, in `before`, over the threads before this one.
  __device__ Amount over_block(Amount own, Amount* before = nullptr) {
    Amount upto = own;
#pragma unroll
    for (int o = 1; o < 32; o *= 2) {
      const Amount other = __shfl_up_sync(~0u, upto, o);
      if (lane() >= o) upto += other;
    }
    __syncthreads();
    if (lane() == 31) shared.sums[warp()] = upto;
    __syncthreads();
    const Amount of_warp = lane() < kWarps ? shared.sums[lane()] : 0;
    if (before != nullptr) *before = upto - own + over_warp(lane() < warp() ? of_warp : 0);
    return over_warp(of_warp);
  }

  __device__ Part over_block(Part v) {
    v = over_warp(v);
    __syncthreads();
    if (lane() == 0) shared.parts[warp()] = v;
    __syncthreads();
    return over_warp(lane() < kWarps ? shared.parts[lane()] : nothing());
  }

  // The sum over all blocks and, in `before`, over the blocks before this one.
  __device__ Amount over_grid(Amount of_block, Amount* before = nullptr) {
    Amount* of = p.scratch->totals[totals++];
    if (threadIdx.x == 0) of[blockIdx.x] = of_block;
    meet();
    const int i = int(threadIdx.x);
    const Amount v = i < int(gridDim.x) ? *const_cast<volatile Amount*>(&of[i]) : 0;
    if (before != nullptr) *before = over_block(i < int(blockIdx.x) ? v : 0);
    return over_block(v);
  }

  __device__ Part look() {
    Part mine = nothing();
    int seen[kSampleOwn];
#pragma unroll
    for (int j = 0; j < kSampleOwn; ++j) {
      logit[j] = has(j) ? p.logits[first + j] : -INFINITY;
      seen[j] = has(j) ? p.seen[first + j] : 0;
      mine.raw_top = fmaxf(mine.raw_top, logit[j]);
      mine.failed |= isnan(logit[j]) || logit[j] == INFINITY;
    }
#pragma unroll
    for (int j = 0; j < kSampleOwn; ++j) {
      if (!has(j)) continue;
      mine.raw_sum += logit[j] == mine.raw_top ? 1.f : expf(logit[j] - mine.raw_top);
      logit[j] = adjusted_logit(logit[j], seen[j], p.bias[first + j], s);
      if (logit[j] > mine.top || mine.at == 0x7fffffff) mine.top = logit[j], mine.at = first + j;
    }
    mine = over_block(mine);
    if (threadIdx.x == 0) p.scratch->parts[blockIdx.x] = mine;
    meet();
    const volatile Part& part = p.scratch->parts[threadIdx.x % kSampleBlocks];
    return over_block(threadIdx.x < gridDim.x
                          ? Part{part.top, part.raw_top, part.raw_sum, part.at, part.failed}
                          : nothing());
  }

  __device__ Amount weight(int j) const { return candidate_weight(logit[j], top, s.scale); }
  __device__ uint64_t key(int j) const { return candidate_key(logit[j], first + j); }
  __device__ bool kept(int j, uint64_t from, Amount least) const {
    return has(j) && key(j) >= from && weight(j) >= least;
  }
  __device__ Amount sum(uint64_t from, Amount least) const {
    Amount total = 0;
#pragma unroll
    for (int j = 0; j < kSampleOwn; ++j)
      if (kept(j, from, least)) total += weight(j);
    return total;
  }

  // Adds up the candidates with keys in [low, high] by digit, over all blocks, and leaves in `shared` the
  // digit where the sums from 255 down reach `need`, what is needed of it, and whether it has to be divided
  // further.
  template <bool Weighed, class DigitOf>
  __device__ void pass(uint64_t low, uint64_t high, Amount need, const DigitOf& digit_of) {
    Digits& all = p.scratch->digits[passes++];
    const int i = int(threadIdx.x);
    if (i < 256) shared.digits.amount[i] = 0, shared.digits.count[i] = 0;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kSampleOwn; ++j) {
      if (!has(j) || key(j) < low || key(j) > high) continue;
      const int digit = digit_of(j);
      if (Weighed) atomicAdd(&shared.digits.amount[digit], weight(j));
      atomicAdd(&shared.digits.count[digit], 1u);
    }
    __syncthreads();
    if (i < 256 && shared.digits.count[i] != 0) {
      atomicAdd(&all.count[i], shared.digits.count[i]);
      if (Weighed) atomicAdd(&all.amount[i], shared.digits.amount[i]);
    }
    meet();
    const int digit = 255 - i;
    const unsigned count = i < 256 ? *const_cast<volatile unsigned*>(&all.count[digit]) : 0;
    Amount amount = count, before = 0;
    if (Weighed && i < 256) amount = *const_cast<volatile Amount*>(&all.amount[digit]);
    over_block(amount, &before);
    if (before < need && need - before <= amount) {
      shared.digit = digit, shared.need = need - before;
      shared.done = count == 1 || need - before == amount;
    }
    __syncthreads();
  }

  // A key such that the candidates from there up are the fewest that number `need`, or weigh as much. The
  // first digit is the distance from the top in eighths, which spreads the candidates; the others divide the
  // keys evenly.
  template <bool Weighed>
  __device__ uint64_t threshold(uint64_t low, Amount need) {
    uint64_t high = ~uint64_t{0} >> 12;
    const auto edge = [&](int c) { return __fsub_rn(top, float(c) * 0.125f); };
    pass<Weighed>(low, high, need, [&](int j) {
      int c = int(fminf((top - logit[j]) * 8.f, 255.f));
      if (c > 0 && logit[j] > edge(c)) --c;
      if (c < 255 && logit[j] <= edge(c + 1)) ++c;
      return 255 - c;
    });
    const int c = 255 - shared.digit;
    high = candidate_key(edge(c), 0);
    if (c < 255) low = max(low, candidate_key(edge(c + 1), 0) + 1);
    while (!shared.done && low < high) {
      const int shift = max(56 - __clzll(int64_t(high - low)), 0);
      need = shared.need;
      pass<Weighed>(low, high, need, [&](int j) { return int((key(j) - low) >> shift); });
      low += uint64_t(shared.digit) << shift;
      high = min(high, low + (uint64_t{1} << shift) - 1);
    }
    return low;
  }

  __device__ void finish(int token, bool failed, float log_probability) const {
    *p.token = failed ? -1 : token;
    *p.log_probability = log_probability;
    *p.ids = token;
    *p.position += 1;
    p.seen[token] += 2;
  }

  // The last block to leave makes the scratch ready for the next launch.
  __device__ void leave() {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(&p.scratch->left, 1) == int(gridDim.x) - 1;
    __syncthreads();
    if (!last) return;
    for (int i = int(threadIdx.x); i < passes * 256; i += kSampleThreads) {
      p.scratch->digits[i / 256].amount[i % 256] = 0;
      p.scratch->digits[i / 256].count[i % 256] = 0;
    }
    if (threadIdx.x == 0) p.scratch->arrived = 0, p.scratch->left = 0;
  }
};

__device__ __forceinline__ Amount part_of(Amount total, float fraction) {
  return Amount(ceil(double(total) * double(fraction)));
}

}  // namespace

// Up to kSampleBlocks cooperating blocks of kSampleThreads.
extern "C" __global__ void __launch_bounds__(kSampleThreads) sample(const __grid_constant__ SampleParams p) {
  __shared__ Shared shared;
  pdl_wait();
  Draw draw{p, shared, *p.settings, int(blockIdx.x * kSampleThreads + threadIdx.x) * kSampleOwn};
  const int position = *p.position;
  const Part all = draw.look();
  draw.top = all.top;
  const int likeliest = all.failed ? 0 : min(all.at, p.count - 1);
  const auto finish = [&](int token) {
    draw.finish(token, all.failed, p.logits[token] - all.raw_top - logf(all.raw_sum));
  };
  if (all.failed || draw.s.scale == 0.f) {
    if (blockIdx.x == 0 && threadIdx.x == 0) finish(likeliest);
    draw.leave();
    return;
  }
  uint64_t from = 0;
  if (draw.s.top_k > 0 && draw.s.top_k < p.count) from = draw.threshold<false>(0, Amount(draw.s.top_k));
  if (draw.s.top_p < 1.f) {
    const Amount total = draw.over_grid(draw.over_block(draw.sum(from, 0)));
    if (total > 0) from = draw.threshold<true>(from, max(part_of(total, draw.s.top_p), Amount{1}));
  }
  const Amount least = part_of(kLargestWeight, draw.s.min_p);
  const Amount mine = draw.sum(from, least);
  Amount before = 0, blocks_before = 0;
  const Amount of_block = draw.over_block(mine, &before), total = draw.over_grid(of_block, &blocks_before);
  const PhiloxWords random = philox(uint64_t(draw.s.seed[1]) << 32 | draw.s.seed[0], uint64_t(position));
  Amount left = __umul64hi(uint64_t(random.word[0]) << 32 | random.word[1], total);
  before += blocks_before;
  if (total == 0) {
    if (blockIdx.x == 0 && threadIdx.x == 0) finish(likeliest);
  } else if (before <= left && left - before < mine) {
    left -= before;
#pragma unroll
    for (int j = 0; j < kSampleOwn; ++j) {
      if (!draw.kept(j, from, least)) continue;
      const Amount w = draw.weight(j);
      if (left < w) {
        finish(draw.first + j);
        break;
      }
      left -= w;
    }
  }
  draw.leave();
}

}  // namespace flashrt
