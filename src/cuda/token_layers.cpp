// Finding the layers of one token's program, and what their one launch needs.
#include "cuda/token_layers.h"

#include <algorithm>
#include <cmath>

#include "cuda/line_readers.h"
#include "cuda/point_function.h"
#include "ops/attention_step.h"
#include "ops/embedding.h"
#include "ops/experts.h"
#include "ops/linear.h"
#include "ops/residual.h"

namespace flashrt::cuda {

namespace {

// What all layers share with the first one.
struct Common {
  float eps = 0, scale = 0;
  int table = -1, position = -1, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t capacity = 0, width = 0, mlp = 0, experts = 0;
  int used = 0, normalise = 0;
  Activation activation = Activation::none;
  bool operator==(const Common&) const = default;
};

class Finder {
 public:
  explicit Finder(const Program& program) : program_(program), readers_(program) {}

  std::optional<TokenLines> from(size_t first) const {
    TokenLines found;
    Common kind;
    int window = 0;
    size_t i = first;
    while (i + 4 < program_.lines.size()) {
      TokenLayerLines layer;
      Common own;
      const size_t count = match(i, layer, own);
      if (count == 0 || (i != first && own != kind)) break;
      if (i != first && line(i).in[kX] != result(found.layers.back())) break;
      const int one = layer.attention->attrs<AttentionStepAttrs>().window;
      if (one != 0 && window != 0 && one != window) break;
      if (one != 0) window = one;
      kind = own;
      found.layers.push_back(layer);
      i += count;
    }
    if (found.layers.empty() || i >= program_.lines.size()) return {};
    const Line& head = line(i);
    if (head.op != &kLinearOp || head.in[kX] != result(found.layers.back()) || !norm_fits(head, kind.width) ||
        !plain(head, {kBias, kResidual, kGate}) || !matrix(head, kW, -1, kind.width) ||
        head.attrs<LinearAttrs>().activation != Activation::none ||
        program_.info(head.out[0]).dtype != DType::f32)
      return {};
    found.head = &head;
    found.first = first, found.count = i + 1 - first;
    if (first > 0) {
      const Line& embedding = line(first - 1);
      const int x = line(first).in[kX];
      if (embedding.op == &kEmbeddingOp && embedding.out[0] == x && matrix(embedding, 1, -1, kind.width) &&
          inside(x, first, i + 1))
        found.embedding = &embedding, --found.first, ++found.count;
    }
    for (size_t j = found.first; j < i; ++j) {
      const bool appends = line(j).op == &kAttentionStepOp;  // results 1 and 2 are the caches
      for (size_t r = 0; r < (appends ? 1 : line(j).out.size()); ++r) {
        if (!inside(line(j).out[r], found.first, i + 1)) return {};
      }
    }
    found.shape = {.layers = int(found.layers.size()),
                   .width = int(kind.width),
                   .mlp = int(kind.mlp),
                   .heads = kind.heads,
                   .kv_heads = kind.kv_heads,
                   .head_dim = kind.head_dim,
                   .vocabulary = int(program_.info(head.in[kW]).shape.rows),
                   .experts = int(kind.experts),
                   .used = kind.used,
                   .capacity = int(kind.capacity)};
    return found;
  }

 private:
  const Line& line(size_t i) const { return program_.lines[i]; }
  static int result(const TokenLayerLines& l) { return (l.experts != nullptr ? l.residual : l.down)->out[0]; }
  bool inside(int id, size_t first, size_t end) const { return readers_.all_within(id, first, end); }

  bool row(int id, int64_t cols, DType dtype = DType::bf16) const {
    const TensorInfo& t = program_.info(id);
    return t.shape.rows == 1 && t.shape.cols == cols && t.dtype == dtype;
  }
  // Read before the launch in front has ended: nothing that a line writes. rows −1: any number.
  bool fixed(int id) const {
    const Kind kind = program_.info(program_.root(id)).kind;
    return kind == Kind::weight || kind == Kind::constant;
  }
  bool matrix(const Line& l, int operand, int64_t rows, int64_t cols) const {
    const TensorInfo& t = program_.info(l.in[size_t(operand)]);
    return (rows < 0 || t.shape.rows == rows) && t.shape.cols == cols && t.dtype == DType::bf16 &&
           fixed(l.in[size_t(operand)]);
  }
  bool vector(const Line& l, int operand, int64_t cols) const {
    return l.has(size_t(operand)) && row(l.in[size_t(operand)], cols, DType::f32) &&
           fixed(l.in[size_t(operand)]);
  }
  // A product alone: without the listed operands, rotation or a second result.
  static bool plain(const Line& l, std::initializer_list<int> without) {
    return l.op == &kLinearOp && l.out.size() == 1 && l.attrs<LinearAttrs>().rope.head_dim == 0 &&
           lacks(l, without);
  }
  bool norm_fits(const Line& l, int64_t width) const {
    return l.attrs<LinearAttrs>().norm.kind == NormKind::rms && vector(l, kNormScale, width) &&
           !l.has(kNormShift) && row(l.in[kX], width);
  }
  // x = residual + w · input
  bool adds(const Line& l, int input, int residual, int64_t width, int64_t k) const {
    const auto a = l.attrs<LinearAttrs>();
    return plain(l, {kBias, kGate, kNormScale}) && l.in[kX] == input && l.in[kResidual] == residual &&
           matrix(l, kW, width, k) && a.norm.kind == NormKind::none && a.activation == Activation::none &&
           row(l.out[0], width);
  }

  // The number of lines of the layer that begins here, or 0.
  size_t match(size_t first, TokenLayerLines& l, Common& kind) const {
    l.qkv = &line(first), l.attention = &line(first + 1), l.out = &line(first + 2);
    if (l.qkv->op != &kLinearOp || l.attention->op != &kAttentionStepOp) return 0;
    kind.width = program_.info(l.qkv->in[kX]).shape.cols;
    const auto a = l.attention->attrs<AttentionStepAttrs>();
    const int64_t attended = int64_t(a.heads) * a.head_dim, kv = int64_t(a.kv_heads) * a.head_dim;
    if (!plain(*l.qkv, {kResidual, kGate}) || !norm_fits(*l.qkv, kind.width) ||
        !matrix(*l.qkv, kW, attended + 2 * kv, kind.width) ||
        l.qkv->attrs<LinearAttrs>().activation != Activation::none ||
        !row(l.qkv->out[0], attended + 2 * kv) ||
        (l.qkv->has(kBias) && !vector(*l.qkv, kBias, attended + 2 * kv)))
      return 0;
    const float eps = kind.eps = l.qkv->attrs<LinearAttrs>().norm.eps;
    const auto& in = l.attention->in;
    for (int norm : {kStepQNorm, kStepKNorm}) {
      if (l.attention->has(size_t(norm)) && (!vector(*l.attention, norm, a.head_dim) || a.eps != eps))
        return 0;
    }
    const Kind position = program_.info(program_.root(in[kStepPosition])).kind;
    if (in[kStepQkv] != l.qkv->out[0] || program_.info(in[kStepTable]).dtype != DType::f32 ||
        (position != Kind::input && position != Kind::state))
      return 0;
    for (int cache : {kStepKCache, kStepVCache}) {
      const TensorInfo& t = program_.info(in[size_t(cache)]);
      if (t.dtype != DType::bf16 || t.shape.cols != kv) return 0;
      kind.capacity = t.shape.rows;
    }
    kind.table = in[kStepTable], kind.position = in[kStepPosition];
    kind.heads = a.heads, kind.kv_heads = a.kv_heads, kind.head_dim = a.head_dim, kind.scale = a.scale;
    if (!adds(*l.out, l.attention->out[0], l.qkv->in[kX], kind.width, attended)) return 0;
    return line(first + 3).op == &kNormOp ? match_experts(first + 3, l, kind) : match_mlp(first + 3, l, kind);
  }
  size_t match_mlp(size_t at, TokenLayerLines& l, Common& kind) const {
    l.gate_up = &line(at), l.down = &line(at + 1);
    const Line& g = *l.gate_up;
    if (!plain(g, {kBias, kResidual, kGate}) || g.in[kX] != l.out->out[0] || !norm_fits(g, kind.width))
      return 0;
    const auto attrs = g.attrs<LinearAttrs>();
    kind.mlp = program_.info(g.in[kW]).shape.rows / 2, kind.activation = attrs.activation;
    if (!is_pair(attrs.activation) || attrs.norm.eps != kind.eps ||
        !matrix(g, kW, 2 * kind.mlp, kind.width) || !row(g.out[0], kind.mlp) ||
        !adds(*l.down, g.out[0], l.out->out[0], kind.width, kind.mlp))
      return 0;
    return 5;
  }
  size_t match_experts(size_t at, TokenLayerLines& l, Common& kind) const {
    if (at + 3 >= program_.lines.size()) return 0;
    l.norm = &line(at), l.router = &line(at + 1), l.experts = &line(at + 2), l.residual = &line(at + 3);
    const auto norm = l.norm->attrs<NormAttrs>();
    const int x = l.norm->out[0];
    if (l.norm->in[0] != l.out->out[0] || norm.kind != NormKind::rms || norm.eps != kind.eps ||
        !vector(*l.norm, 1, kind.width) || l.norm->has(2) || !row(x, kind.width))
      return 0;
    const Line& r = *l.router;
    const auto attrs = r.attrs<LinearAttrs>();
    if (!plain(r, {kBias, kResidual, kGate, kNormScale}) || r.in[kX] != x || !matrix(r, kW, -1, kind.width) ||
        attrs.activation != Activation::none || attrs.norm.kind != NormKind::none ||
        program_.info(r.out[0]).dtype != DType::f32)
      return 0;
    kind.experts = program_.info(r.in[kW]).shape.rows;
    const Line& e = *l.experts;
    if (e.op != &kExpertsOp || e.in[0] != x || e.in[1] != r.out[0]) return 0;
    const auto experts = e.attrs<ExpertsAttrs>();
    kind.mlp = program_.info(e.in[3]).shape.cols, kind.activation = experts.activation;
    kind.used = experts.used, kind.normalise = experts.normalise;
    if (!is_pair(experts.activation) || !matrix(e, 2, kind.experts * 2 * kind.mlp, kind.width) ||
        !matrix(e, 3, kind.experts * kind.width, kind.mlp))
      return 0;
    const Line& add = *l.residual;
    if (add.op != &kResidualOp || add.in[0] != l.out->out[0] || add.in[1] != e.out[0] || add.has(2) ||
        !row(add.out[0], kind.width))
      return 0;
    return 7;
  }

  const Program& program_;
  LineReaders readers_;
};

}  // namespace

std::optional<TokenLines> find_token_layers(const Program& program) {
  const Finder finder(program);
  for (size_t first = 0; first < program.lines.size(); ++first) {
    if (program.lines[first].op != &kLinearOp) continue;
    if (auto found = finder.from(first)) return found;
  }
  return {};
}

std::optional<TokenStackLaunch> build_token_layers(const Program& program, const Device& device,
                                                   std::span<void* const> address,
                                                   const std::map<std::string, std::string>& force,
                                                   std::vector<Memory>& memory) {
  const auto rule = force.find("token_stack");
  if ((rule != force.end() && rule->second == "-persistent") || device.sm / 10 != 9 ||
      device.shared_bytes < 227 * 1024)
    return {};
  const std::optional<TokenLines> lines = find_token_layers(program);
  TokenStackParams p{};
  TokenLaunch plan{};
  if (!lines || !plan_token_stack(lines->shape, device.processors, &p, &plan)) return {};

  TokenStackLaunch result{.first = lines->first, .count = lines->count};
  const auto reserve = [&](size_t bytes, const char* purpose) {
    memory.push_back(allocate(bytes, purpose));
    result.bytes += bytes;
    return memory.back().get();
  };
  const auto data = [&]<class T>(const Line* line, int operand, T*& to) {
    to = line != nullptr && line->has(size_t(operand))
             ? static_cast<T*>(address[size_t(line->in[size_t(operand)])])
             : nullptr;
  };
  std::vector<TokenLayer> layers;
  std::vector<TokenMaps> maps;
  for (const TokenLayerLines& l : lines->layers) {
    TokenLayer& to = layers.emplace_back();
    const Line* mlp = l.experts != nullptr ? l.experts : l.gate_up;
    data(l.qkv, kW, to.qkv), data(l.out, kW, to.out), data(l.router, kW, to.router);
    data(mlp, l.experts != nullptr ? 2 : int(kW), to.gate_up);
    data(l.experts != nullptr ? mlp : l.down, l.experts != nullptr ? 3 : int(kW), to.down);
    data(l.qkv, kNormScale, to.norm1);
    data(l.experts != nullptr ? l.norm : l.gate_up, l.experts != nullptr ? 1 : int(kNormScale), to.norm2);
    data(l.qkv, kBias, to.qkv_bias);
    data(l.attention, kStepQNorm, to.q_norm), data(l.attention, kStepKNorm, to.k_norm);
    data(l.attention, kStepKCache, to.k_cache), data(l.attention, kStepVCache, to.v_cache);
    const int window = l.attention->attrs<AttentionStepAttrs>().window;
    to.windowed = window > 0;
    if (window > 0) p.window = window;
    if (!encode_token_cache(lines->shape, to.k_cache, to.v_cache, tensor_map_function(),
                            &maps.emplace_back()))
      fail_device("{}: the driver refused a tensor map", to_string(l.attention->at));
  }
  const auto upload = [&]<class T>(const std::vector<T>& from, const char* purpose) {
    auto* to = static_cast<T*>(reserve(from.size() * sizeof(T), purpose));
    checked(cudaMemcpy(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
    return to;
  };
  p.layers = upload(layers, "tables of layers"), p.maps = upload(maps, "tensor maps");
  p.exchange = static_cast<uint8_t*>(reserve(p.at.bytes, "hand-offs between blocks"));
  checked(cudaMemset(p.exchange, 0, p.at.bytes));

  const TokenLayerLines& first = lines->layers.front();
  const auto step = first.attention->attrs<AttentionStepAttrs>();
  p.eps = first.qkv->attrs<LinearAttrs>().norm.eps, p.head_eps = lines->head->attrs<LinearAttrs>().norm.eps;
  p.score_scale = (step.scale != 0 ? step.scale : 1.f / std::sqrt(float(step.head_dim))) * 1.44269504f;
  p.normalise = first.experts != nullptr ? first.experts->attrs<ExpertsAttrs>().normalise : 0;
  p.function = point_function_of(first.experts != nullptr ? first.experts->attrs<ExpertsAttrs>().activation
                                                          : first.gate_up->attrs<LinearAttrs>().activation);
  data(first.attention, kStepPosition, p.position), data(first.attention, kStepTable, p.rope);
  p.scale = 1.f;
  if (lines->embedding != nullptr) {
    data(lines->embedding, 0, p.ids), data(lines->embedding, 1, p.x);
    p.vocabulary = int(program.info(lines->embedding->in[1]).shape.rows);
    p.scale = lines->embedding->attrs<float>();
  } else {
    data(first.qkv, kX, p.x);
  }
  data(lines->head, kNormScale, p.norm), data(lines->head, kW, p.head);
  p.logits = static_cast<float*>(address[size_t(lines->head->out[0])]);
  result.launch = Launch::of(plan.kernel, plan.grid, plan.block, p, plan.shared_bytes);
  result.launch.cooperative = true;
  return result;
}

}  // namespace flashrt::cuda
