// Geometry of the persistent token stack.
#include "cuda/token_stack.h"

#include <algorithm>

namespace flashrt {

namespace {

constexpr int kLargestShared = 227 * 1024;

constexpr int aligned(int n, int to) { return (n + to - 1) / to * to; }

TokenProduct product(int units, int columns, bool pair) {
  TokenProduct q{};
  q.units = units, q.columns = columns, q.row_bytes = columns * 2, q.segments = 1;
  q.stages = (columns + kTokenStageColumns - 1) / kTokenStageColumns;
  q.last_columns = columns - (q.stages - 1) * kTokenStageColumns;
  q.second = kTokenStageBytes / 2;
  q.step = int64_t(q.row_bytes) * (pair ? 1 : 2);
  q.apart = pair ? int64_t(units) * q.row_bytes : q.row_bytes;
  return q;
}

void plan_exchange(const TokenShape& s, TokenStackParams* p) {
  TokenExchange& e = p->at;
  const auto take = [&](size_t bytes) {
    const size_t begin = e.set;
    e.set += (bytes + 255) / 256 * 256;
    return begin;
  };
  const size_t attended = size_t(s.heads) * s.head_dim;
  e = {};
  e.before = take(size_t(s.width) * 4), e.between = take(size_t(s.width) * 4);
  e.qkv = take((attended + 2 * size_t(s.kv_heads) * s.head_dim) * 2);
  e.partial = take(attended * p->splits * 4), e.extent = take(size_t(s.heads) * p->splits * 8);
  e.attended = take(attended * 2), e.router = take(size_t(s.experts) * 4);
  e.hidden = take(size_t(s.mlp) * std::max(s.used, 1) * 2);
  e.generation = 2 * e.set, e.bytes = e.generation + 256;
}

}  // namespace

bool plan_token_stack(const TokenShape& s, int blocks, TokenStackParams* p, TokenLaunch* launch) {
  const auto multiple = [](int of, auto... n) { return ((n > 0 && n % of == 0) && ...); };
  if ((s.head_dim != 64 && s.head_dim != 128) || !multiple(8, s.width, s.mlp) || !multiple(2, s.vocabulary) ||
      s.kv_heads < 1 || s.heads % s.kv_heads != 0 || s.heads / s.kv_heads > kTokenMostQueries)
    return false;
  if (s.experts > 0 && (s.experts > kTokenMostExperts || s.experts % 2 != 0 || s.used < 1 ||
                        s.used > std::min(kTokenMostUsed, s.experts) || s.mlp > kTokenStageColumns ||
                        s.width > kTokenStageColumns))
    return false;
  // Every block adds to the residual stream: what it has cleared is ordered by that.
  blocks = std::min(blocks, s.width / 2);
  if (s.kv_heads > blocks || s.mlp * std::max(s.used, 1) < blocks ||
      (s.width / 2 + blocks - 1) / blocks > kTokenMostOwn)
    return false;

  p->layer_count = s.layers, p->width = s.width, p->mlp = s.mlp;
  p->heads = s.heads, p->kv_heads = s.kv_heads, p->group = s.heads / s.kv_heads;
  p->experts = s.experts, p->used = s.used, p->capacity = s.capacity, p->vocabulary = s.vocabulary;
  p->splits = std::clamp(blocks / s.kv_heads, 1, kTokenMostSplits);

  const int attended = s.heads * s.head_dim;
  TokenProduct* q = p->product;
  q[kTokenQkv] = product(attended / 2 + s.kv_heads * s.head_dim, s.width, false);
  q[kTokenOut] = product(s.width / 2, attended, false);
  q[kTokenRouter] = product(s.experts / 2, s.width, false);
  q[kTokenGateUp] = product(s.mlp, s.width, true);
  q[kTokenDown] = product(s.width / 2, s.mlp, false);
  q[kTokenHead] = product(s.vocabulary / 2, s.width, false);
  if (s.experts > 0) {
    q[kTokenGateUp].units = s.used * s.mlp;
    TokenProduct& down = q[kTokenDown];  // the two rows of a unit are neighbours, in memory and in a stage
    down.segments = kTokenStageBytes / (2 * down.row_bytes);
    down.stages = (s.used + down.segments - 1) / down.segments;
    down.second = down.row_bytes;
  }
  // The same warp adds to a column in out and in down: the residual stream is its own.
  int shift = 0, turn = 0;
  for (int work = 0; work < kTokenHead; ++work) {
    q[work].shift = shift, q[work].turn = turn;
    shift = (shift + q[work].units) % blocks, turn = (turn + q[work].units / blocks) % kTokenWarps;
  }
  q[kTokenDown].shift = q[kTokenOut].shift, q[kTokenDown].turn = q[kTokenOut].turn;

  const int widest = std::max({s.width, attended, s.mlp * std::max(s.used, 1)});
  const int group = p->group, whole = kTokenWarps * group * (s.head_dim + 8) * 4;  // the merge of the warps
  const int merge =
      whole <= 20 * 1024 || s.head_dim == 64 ? whole : kTokenWarps * group * (s.head_dim / 2 + 8) * 4;
  p->x_bytes = aligned(std::max(widest * 2, merge), 128);
  const int queries = aligned(group * (s.head_dim * 2 + 16), 16),
            rest = kTokenSharedBytes + s.layers * int(sizeof(TokenLayer));
  p->slots = std::min(3, (kLargestShared - p->x_bytes - queries - rest) / (kTokenWarps * kTokenStageBytes));
  if (p->slots < 2) return false;
  p->x_at = kTokenWarps * p->slots * kTokenStageBytes;
  p->queries_at = p->x_at + p->x_bytes;
  p->shared_at = p->queries_at + queries;
  p->layers_at = p->shared_at + kTokenSharedBytes;
  p->in_flight = 2, p->pace = 940;
  p->ahead = s.experts > 0 ? 3 : 0;
  plan_exchange(s, p);
  *launch = {.kernel = s.head_dim == 64 ? "token_stack_64" : "token_stack_128",
             .grid = unsigned(blocks),
             .block = kTokenThreads,
             .shared_bytes = unsigned(p->layers_at + s.layers * int(sizeof(TokenLayer)))};
  return true;
}

bool encode_token_cache(const TokenShape& s, const void* keys, const void* values,
                        decltype(&cuTensorMapEncodeTiled) encode, TokenMaps* maps) {
  const cuuint64_t columns = cuuint64_t(s.kv_heads) * cuuint64_t(s.head_dim);
  const cuuint64_t size[] = {64, cuuint64_t(s.capacity), columns / 64}, strides[] = {columns * 2, 128};
  const cuuint32_t box[] = {64, cuuint32_t(token_tile_keys(s.head_dim)), cuuint32_t(s.head_dim / 64)};
  const cuuint32_t steps[] = {1, 1, 1};
  const auto map = [&](CUtensorMap* to, const void* data) {
    return encode(to, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(data), size, strides, box, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  };
  return map(&maps->k, keys) && map(&maps->v, values);
}

}  // namespace flashrt
