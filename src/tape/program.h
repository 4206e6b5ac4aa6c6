// The tape: a straight-line program of op lines over tensors, and the passes that rewrite it.
#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tape/tensor.h"

namespace flashrt {

class Program;
struct Line;
class RefCall;

// Bytes moved (each operand once), those of them that are weights or constants, and floating-point operations
// of one line; feeds profile and bench.
struct Cost {
  double bytes = 0, weight_bytes = 0, flops = 0;
};

// One op: its name, its CPU definition and what the passes may assume about it.
struct OpDef {
  const char* name;
  void (*reference)(RefCall&);
  double (*flops)(const Program&, const Line&) = nullptr;  // null: counted as zero
  std::string (*describe)(const Line&) = nullptr;          // the attributes, for dumps
  int in_place = -1;      // output 0 may take over the memory of this input when the input dies here
  uint32_t streamed = 0;  // a bit per operand: a matrix that the CPU definition reads in its stored format
};

// One line of the tape. Absent operands are -1. Attributes are a small trivially copyable struct per op.
struct Line {
  const OpDef* op = nullptr;
  At at;
  int stage = 0;
  std::vector<int> in, out;
  std::array<std::byte, 96> attr_bytes{};

  template <class T>
  T attrs() const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof attr_bytes);
    T value;
    std::memcpy(&value, attr_bytes.data(), sizeof(T));
    return value;
  }
  template <class T>
  void set_attrs(const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof attr_bytes);
    attr_bytes.fill(std::byte{0});
    std::memcpy(attr_bytes.data(), &value, sizeof(T));
  }
  bool streams(size_t i) const { return (op->streamed >> i & 1u) != 0; }
  int input(size_t i) const { return i < in.size() ? in[i] : -1; }
  bool has(size_t i) const { return input(i) >= 0; }
};

enum class Kind : uint8_t {
  temp,      // written by a line
  input,     // written by the caller before every run
  weight,    // of the checkpoint
  constant,  // known when the program is built
  buffer,    // storage that lines append to; its contents do not outlive a run
  state,     // storage that persists between runs (a language model's cache)
};

struct TensorInfo {
  std::string name;
  Kind kind = Kind::temp;
  Shape shape;
  DType dtype = DType::f32;
  int base = -1;                         // the tensor whose memory this one is rows of; itself for a root
  int64_t row_begin = 0;                 // first row within base
  std::shared_ptr<const Weight> weight;  // kind weight
  std::shared_ptr<const std::vector<float>> values;  // kind constant: f32 values, stored as `dtype`
  // As stored; packed weights (of type u8) take what their format takes.
  size_t bytes() const {
    return dtype == DType::u8 && weight ? weight->packed_bytes() : size_t(shape.size()) * size_of(dtype);
  }
};

// Offsets of every root in the arena, bytes. Inputs come first, then outputs; each is one contiguous region.
struct Plan {
  std::vector<int64_t> offset;  // by tensor id; -1 where the tensor has no place in the arena
  int64_t arena_bytes = 0, unshared_bytes = 0;
  int64_t input_begin = 0, input_bytes = 0, output_begin = 0, output_bytes = 0;
};

class Program {
 public:
  // `compute` is the type of activations and of matrices: f32, bf16 or f16.
  explicit Program(DType compute = DType::f32) : compute_(compute) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  Tensor input(std::string name, Shape shape, DType dtype);
  Tensor weight(Weight weight);
  Tensor constant(std::string name, Shape shape, std::vector<float> values);
  Tensor buffer(std::string name, Shape shape, DType dtype, Kind kind = Kind::buffer);
  void output(std::string name, Tensor tensor);

  // Rows [begin, begin + count) of x: a view, no line.
  Tensor rows(Tensor x, int64_t begin, int64_t count);
  // The same memory read as another shape of equal size: a view of the whole tensor, no line.
  Tensor reshape(Tensor x, Shape shape);

  // Lines recorded from now on belong to this stage (vision, prefix, …) in profiles and timings.
  void stage(std::string name);

  // While the returned guard lives, recorded values are f32: for what is small and must be precise.
  class Exact {
   public:
    explicit Exact(Program& p) : program_(p), saved_(p.compute_) { p.compute_ = DType::f32; }
    ~Exact() { program_.compute_ = saved_; }
    Exact(const Exact&) = delete;

   private:
    Program& program_;
    DType saved_;
  };
  Exact exact() { return Exact(*this); }
  DType compute() const { return compute_; }

  // Every half-type tensor becomes f32: an oracle with the lines of a program recorded for a half type.
  void widen();

  // Called by ops: a fresh output, an output that is a new version of `of` (same memory), and the line
  // itself.
  Tensor temp(Shape shape, DType dtype);
  Tensor version(Tensor of);
  template <class Attrs>
  void record(const OpDef& op, std::vector<Tensor> in, std::vector<Tensor> out, const Attrs& attrs, At at) {
    Line line{.op = &op, .at = at, .stage = int(stages.size()) - 1};
    for (Tensor t : in) line.in.push_back(t.id);
    for (Tensor t : out) line.out.push_back(t.id);
    line.set_attrs(attrs);
    lines.push_back(std::move(line));
  }

  const TensorInfo& info(int id) const { return tensors[size_t(id)]; }
  Tensor handle(int id) { return {this, id}; }
  int root(int id) const;                  // follows base links
  int64_t root_byte_offset(int id) const;  // of the tensor's first byte within its root
  Cost cost(const Line& line) const;

  std::vector<TensorInfo> tensors;
  std::vector<Line> lines;
  std::vector<std::pair<std::string, int>> inputs, outputs;
  std::vector<std::string> stages{"main"};

 private:
  Tensor add(TensorInfo info);
  DType compute_;
};

// ---- passes, in the order in which they run ----

// Lines that depend on weights and constants alone are computed now, by the CPU definitions.
int fold(Program& program);
// Lines whose results reach no output and no state are dropped. Returns the number dropped.
int drop_dead(Program& program);

// A rewrite: looks at the tape from line i on and, where it matches, edits the tape and returns true.
// `supported` says whether the device has an implementation of a candidate line.
struct FuseContext {
  Program& program;
  std::vector<int> uses;  // by tensor id: reads by lines, plus outputs
  std::function<bool(const Program&, const Line&)> supported;
  void refresh();
  // The index of the only line that reads tensor `id` (views included), or -1 when there are several or none.
  int only_reader(int id, size_t from) const;
  // The index of the last line before `end` that writes tensor `id` whole, or -1.
  int writer(int id, size_t end) const;
};
using Pattern = bool (*)(FuseContext&, size_t line);
int fuse(Program& program, std::span<const Pattern> patterns,
         std::function<bool(const Program&, const Line&)> supported);

// Lifetimes → offsets. Tensors whose lifetimes do not overlap share memory.
Plan plan_memory(Program& program);

// The tape as text: one line each, `%id dtype[rows, cols] = op(operands) {attributes}  file:line`.
std::string dump_tape(const Program& program);
// The memory plan as text: every root with its lifetime and offset.
std::string dump_memory(const Program& program, const Plan& plan);

}  // namespace flashrt
