// Finding stretches of decoder layers, and what their one launch needs.
#include "cuda/layer_stack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda/decoder_stack.h"
#include "cuda/line_readers.h"
#include "cuda/token_layers.h"
#include "ops/attention.h"
#include "ops/linear.h"

namespace flashrt::cuda {

namespace {

constexpr size_t kLinesPerLayer = 5;  // qkv, attention, out, gate-up, down

// The five lines of one layer, as the fusion patterns leave them.
struct Layer {
  const Line *qkv, *attention, *out, *gate_up, *down;
};

// What every layer of a stretch must share with the first one.
struct Common {
  int64_t rows = 0;
  float eps = 0, scale = 0;
  int table = -1, position = -1, lead_rows = 0;
  bool silu = false;
  bool operator==(const Common&) const = default;
};

class Finder {
 public:
  explicit Finder(const Program& program) : program_(program), readers_(program) {}

  // The layers that begin at line `first`: as many as agree with each other; an even number.
  std::vector<Layer> layers(size_t first, Common& kind) const {
    std::vector<Layer> found;
    for (size_t i = first; found.size() < size_t(kStackLayers) && i + kLinesPerLayer <= program_.lines.size();
         i += kLinesPerLayer) {
      Layer layer{};
      Common own;
      if (!match(i, layer, own) || (i != first && own != kind)) break;
      if (i != first &&
          (layer.qkv->in[kX] != found.back().down->out[0] || layer.qkv->stage != found.back().down->stage))
        break;
      kind = own;
      found.push_back(layer);
    }
    if (found.size() % 2 != 0) found.pop_back();
    while (!found.empty() && !self_contained(first, found)) found.resize(found.size() - 2);
    return found;
  }

 private:
  bool is(int id, int64_t rows, int64_t cols, DType dtype = DType::bf16) const {
    const TensorInfo& t = program_.info(id);
    return t.shape.rows == rows && t.shape.cols == cols && t.dtype == dtype;
  }
  bool vector(const Line& line, int operand) const {
    return !line.has(size_t(operand)) || is(line.in[size_t(operand)], 1, kStackWidth, DType::f32);
  }
  bool norm_fits(const Line& line, Common& kind) const {
    const NormAttrs norm = line.attrs<LinearAttrs>().norm;
    kind.eps = norm.eps;
    return (norm.kind == NormKind::rms || norm.kind == NormKind::ada_rms) && vector(line, kNormScale) &&
           vector(line, kNormShift);
  }

  bool match(size_t first, Layer& l, Common& kind) const {
    const Line* line = &program_.lines[first];
    l = {line, line + 1, line + 2, line + 3, line + 4};
    for (const Line* one : {l.qkv, l.out, l.gate_up, l.down}) {
      if (one->op != &kLinearOp || one->in.size() != size_t(kLinearOperands)) return false;
    }
    if (l.attention->op != &kAttentionOp) return false;

    const int64_t rows = kind.rows = program_.info(l.qkv->in[kX]).shape.rows;
    constexpr int64_t kAttended = kStackHeads * kStackHeadDim;
    if (rows < 8 || rows > 64 || !is(l.qkv->in[kX], rows, kStackWidth)) return false;
    const auto qkv = l.qkv->attrs<LinearAttrs>();
    if (!norm_fits(*l.qkv, kind) || qkv.activation != Activation::none || qkv.rope.heads != kStackHeads ||
        qkv.rope.kv_heads != 1 || qkv.rope.head_dim != kStackHeadDim || l.qkv->out.size() != 3)
      return false;
    if (!is(l.qkv->in[kW], kAttended + 2 * kStackHeadDim, kStackWidth) ||
        !lacks(*l.qkv, {kBias, kResidual, kGate}) || !l.qkv->has(kPosition) || !l.qkv->has(kTable))
      return false;
    const TensorInfo& keys = program_.info(l.qkv->out[1]);
    if (keys.shape.rows > 64 * kStackChunks ||
        program_.info(program_.root(l.qkv->out[1])).kind != flashrt::Kind::buffer)
      return false;
    kind.table = l.qkv->in[kTable], kind.position = l.qkv->in[kPosition];

    const auto a = l.attention->attrs<AttentionAttrs>();
    const AttentionAttrs wanted{.heads = kStackHeads,
                                .kv_heads = 1,
                                .head_dim = kStackHeadDim,
                                .keys = int32_t(rows),
                                .lead_rows = a.lead_rows,
                                .scale = a.scale};
    if (std::memcmp(&a, &wanted, sizeof a) != 0 || l.attention->in[0] != l.qkv->out[0] ||
        l.attention->in[1] != l.qkv->out[1] || l.attention->in[2] != l.qkv->out[2] ||
        l.attention->in[3] != kind.position)
      return false;
    kind.lead_rows = a.lead_rows;
    kind.scale = a.scale != 0 ? a.scale : 1.f / std::sqrt(float(kStackHeadDim));

    const auto gate_up = l.gate_up->attrs<LinearAttrs>();
    Common other = kind;
    if (!norm_fits(*l.gate_up, other) || other != kind || !is_pair(gate_up.activation) ||
        gate_up.rope.head_dim != 0 || l.gate_up->in[kX] != l.out->out[0] ||
        !is(l.gate_up->in[kW], 2 * kStackMlp, kStackWidth) || !lacks(*l.gate_up, {kBias, kResidual, kGate}))
      return false;
    kind.silu = gate_up.activation == Activation::swiglu;
    if (!kind.silu && gate_up.activation != Activation::geglu) return false;

    return adds(*l.out, l.attention->out[0], l.qkv->in[kX], kAttended) &&
           adds(*l.down, l.gate_up->out[0], l.out->out[0], kStackMlp);
  }
  // x = residual + gate · (w · input)
  bool adds(const Line& line, int input, int residual, int64_t k) const {
    const auto attrs = line.attrs<LinearAttrs>();
    return line.in[kX] == input && line.in[kResidual] == residual && is(line.in[kW], kStackWidth, k) &&
           attrs.norm.kind == NormKind::none && attrs.activation == Activation::none &&
           attrs.rope.head_dim == 0 && lacks(line, {kBias, kNormScale}) && vector(line, kGate);
  }

  // Nothing else reads what stays inside: activations, and this step's keys and values, which never reach the
  // cache.
  bool self_contained(size_t first, const std::vector<Layer>& layers) const {
    const size_t end = first + layers.size() * kLinesPerLayer;
    const auto only_inside = [&](int id) { return readers_.all_within(id, first, end); };
    for (size_t i = 0; i < layers.size(); ++i) {
      const Layer& l = layers[i];
      for (const Line* line : {l.qkv, l.attention, l.out, l.gate_up, l.down}) {
        const size_t results = line == l.qkv ? 1 : line->out.size();  // qkv's others are the cache
        for (size_t j = 0; j < results; ++j) {
          const bool result = line == l.down && j == 0 && i + 1 == layers.size();
          if (!result && !only_inside(line->out[j])) return false;
        }
      }
      for (int id : {l.qkv->out[1], l.qkv->out[2]}) {
        if (!attended_once(id, l.attention)) return false;
      }
    }
    return true;
  }
  // The cache with these rows is read by this layer's attention, and otherwise only appended to (which
  // overwrites them).
  bool attended_once(int id, const Line* attention) const {
    return std::ranges::all_of(readers_.of(id), [&](size_t i) {
      if (i >= program_.lines.size()) return false;
      const Line& line = program_.lines[i];
      return &line == attention ||
             (line.op == &kLinearOp && (line.in[kKCache] == id || line.in[kVCache] == id));
    });
  }

  const Program& program_;
  LineReaders readers_;
};

}  // namespace

const LayerStack* LayerStacks::at(size_t line) const {
  const auto found = std::ranges::find(stacks_, line, &LayerStack::first);
  return found != stacks_.end() ? &*found : nullptr;
}

void LayerStacks::build(const Program& program, const Device& device, std::span<void* const> address,
                        const std::map<std::string, std::string>& force, cudaStream_t stream) {
  if (auto found = build_token_layers(program, device, address, force, memory_)) {
    device_bytes_ += found->bytes;
    stacks_.push_back({.first = found->first, .count = found->count, .launch = std::move(found->launch)});
  }
  const auto rule = force.find("decoder_stack");
  if (rule != force.end() && rule->second == "-persistent") return;
  if (device.sm / 10 != 9 || device.processors < kStackBlocks || device.shared_bytes < 227 * 1024) return;

  const auto data = [&](const Line& line, int operand) {
    return line.has(size_t(operand)) ? address[size_t(line.in[size_t(operand)])] : nullptr;
  };
  const auto reserve = [&](size_t bytes, const char* purpose) {
    memory_.push_back(allocate(bytes, purpose));
    device_bytes_ += bytes;
    return memory_.back().get();
  };
  const Finder finder(program);
  std::map<std::vector<const void*>, const StackLayer*> maps;  // stretches of the same layers share them
  std::map<int64_t, uint8_t*> exchanges;                       // by rows; stretches run one after another
  for (size_t first = 0; first < program.lines.size(); ++first) {
    Common kind;
    const std::vector<Layer> layers = finder.layers(first, kind);
    if (layers.empty()) continue;

    std::vector<const void*> key;
    std::vector<StackLayer> encoded;
    std::vector<StackVectors> vectors;
    size_t biases = 0;
    for (const Layer& l : layers) {
      const StackMatrices m{.qkv = data(*l.qkv, kW),
                            .out = data(*l.out, kW),
                            .gate_up = data(*l.gate_up, kW),
                            .down = data(*l.down, kW),
                            .keys = address[size_t(l.qkv->out[1])],
                            .values = address[size_t(l.qkv->out[2])],
                            .capacity = int(program.info(l.qkv->out[1]).shape.rows)};
      key.insert(key.end(), {m.qkv, m.out, m.gate_up, m.down, m.keys, m.values});
      if (!encode_stack_layer(m, tensor_map_function(), &encoded.emplace_back()))
        fail_device("{}: no tensor maps for a stack of layers", to_string(l.qkv->at));
      const auto vector = [&](const Line& line, int operand) {
        return static_cast<const float*>(data(line, operand));
      };
      vectors.push_back({.scale1 = vector(*l.qkv, kNormScale),
                         .scale2 = vector(*l.gate_up, kNormScale),
                         .gate1 = vector(*l.out, kGate),
                         .gate2 = vector(*l.down, kGate)});
      for (const Line* line : {l.qkv, l.gate_up}) {
        if (line->has(kNormShift)) biases += size_t(program.info(line->in[kW]).shape.rows);
      }
    }
    const StackLayer*& layer_maps = maps[key];
    if (layer_maps == nullptr) {
      auto* to = static_cast<StackLayer*>(reserve(encoded.size() * sizeof(StackLayer), "tensor maps"));
      checked(cudaMemcpy(to, encoded.data(), encoded.size() * sizeof(StackLayer), cudaMemcpyHostToDevice));
      layer_maps = to;
    }
    float* bias =
        biases == 0 ? nullptr : static_cast<float*>(reserve(biases * sizeof(float), "folded shifts"));
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto fold = [&](const Line& line, const float*& to) {
        if (!line.has(kNormShift)) return;
        const Shape w = program.info(line.in[kW]).shape;
        Launch fold_shift =
            Launch::of("decoder_stack_bias", unsigned(w.rows + 7) / 8, 256,
                       StackBiasParams{.w = static_cast<const __nv_bfloat16*>(data(line, kW)),
                                       .shift = static_cast<const float*>(data(line, kNormShift)),
                                       .bias = bias,
                                       .n = int(w.rows),
                                       .k = int(w.cols)});
        fold_shift.handle = find_kernel(fold_shift.kernel.c_str());
        launch(fold_shift, stream);
        to = bias;
        bias += w.rows;
      };
      fold(*layers[i].qkv, vectors[i].bias1);
      fold(*layers[i].gate_up, vectors[i].bias2);
    }
    auto* device_vectors =
        static_cast<StackVectors*>(reserve(vectors.size() * sizeof(StackVectors), "tables of a stack"));
    checked(cudaMemcpy(device_vectors, vectors.data(), vectors.size() * sizeof(StackVectors),
                       cudaMemcpyHostToDevice));

    const StackExchange exchange = stack_exchange(int(kind.rows));
    uint8_t*& hand_off = exchanges[kind.rows];
    if (hand_off == nullptr) {
      hand_off = static_cast<uint8_t*>(reserve(exchange.bytes, "hand-offs between blocks"));
      checked(cudaMemset(hand_off, 0, exchange.bytes));
    }
    const StackLaunch plan = plan_decoder_stack(int(kind.rows));
    const DecoderStackParams params{
        .layers = layer_maps,
        .vectors = device_vectors,
        .layer_count = int(layers.size()),
        .rows = int(kind.rows),
        .lead_rows = kind.lead_rows,
        .stages = plan.stages,
        .silu = kind.silu,
        .pace = plan.pace,
        .eps = kind.eps,
        .score_scale = kind.scale * 1.44269504f,
        .position = static_cast<const int*>(address[size_t(kind.position)]),
        .rope = static_cast<const float2*>(address[size_t(kind.table)]),
        .x = static_cast<const __nv_bfloat16*>(data(*layers.front().qkv, kX)),
        .y = static_cast<__nv_bfloat16*>(address[size_t(layers.back().down->out[0])]),
        .exchange = hand_off,
        .at = exchange,
        .trace = nullptr,
    };
    LayerStack& stack = stacks_.emplace_back();
    stack = {.first = first, .count = layers.size() * kLinesPerLayer};
    stack.launch = Launch::of(plan.kernel, plan.grid, plan.block, params, plan.shared_bytes);
    stack.launch.cooperative = true;
    first += stack.count - 1;
  }
  checked(cudaStreamSynchronize(stream));
}

}  // namespace flashrt::cuda
