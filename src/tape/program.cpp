// Recording: tensors, views and lines.
#include "tape/program.h"

#include "base/error.h"

namespace flashrt {

Shape Tensor::shape() const { return program->info(id).shape; }
DType Tensor::dtype() const { return program->info(id).dtype; }

std::string to_string(At at) {
  std::string_view file = at.file;
  if (const size_t slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
  return fmt::format("{}:{}", file, at.line);
}

Weight::Part Weight::Part::slice(int64_t begin, int64_t end) const {
  Part part = *this;
  part.rows = end - begin;
  if (packed != nullptr)
    part.first += begin;
  else
    part.data += size_t(begin * stride) * size_of(dtype);
  return part;
}

std::optional<quant::Format> Weight::format() const {
  if (parts.empty() || parts[0].packed == nullptr) return std::nullopt;
  const quant::Packed& first = *parts[0].packed;
  for (const Part& part : parts) {
    if (part.packed == nullptr || part.packed->format != first.format || !part.packed->regular() ||
        part.packed->scale_type != first.scale_type) {
      return std::nullopt;
    }
  }
  return parts[0].packed->format;
}

size_t Weight::packed_bytes() const {
  size_t total = 0;
  for (const Part& part : parts) total += part.packed != nullptr ? part.packed->bytes(part.rows) : 0;
  return total;
}

Tensor Program::add(TensorInfo info) {
  const int id = int(tensors.size());
  if (info.base < 0) info.base = id;
  tensors.push_back(std::move(info));
  return {this, id};
}

Tensor Program::input(std::string name, Shape shape, DType dtype) {
  const Tensor t = add({.name = name, .kind = Kind::input, .shape = shape, .dtype = dtype});
  inputs.emplace_back(std::move(name), t.id);
  return t;
}

Tensor Program::weight(Weight weight) {
  // Matrices are computed with in the program's compute type, vectors stay f32, packed codes are bytes.
  const DType dtype = weight.format() ? DType::u8 : weight.shape.rows > 1 ? compute_ : DType::f32;
  TensorInfo info{.name = weight.name, .kind = Kind::weight, .shape = weight.shape, .dtype = dtype};
  info.weight = std::make_shared<const Weight>(std::move(weight));
  return add(std::move(info));
}

Tensor Program::constant(std::string name, Shape shape, std::vector<float> values) {
  check(int64_t(values.size()) == shape.size(), "constant: one value per element");
  TensorInfo info{.name = std::move(name), .kind = Kind::constant, .shape = shape, .dtype = DType::f32};
  info.values = std::make_shared<const std::vector<float>>(std::move(values));
  return add(std::move(info));
}

Tensor Program::buffer(std::string name, Shape shape, DType dtype, Kind kind) {
  return add({.name = std::move(name), .kind = kind, .shape = shape, .dtype = dtype});
}

void Program::output(std::string name, Tensor tensor) { outputs.emplace_back(std::move(name), tensor.id); }

Tensor Program::rows(Tensor x, int64_t begin, int64_t count) {
  const TensorInfo& of = info(x.id);
  check(info(root(x.id)).kind != Kind::weight, "rows: a device may store a weight's rows padded");
  check(begin >= 0 && count > 0 && begin + count <= of.shape.rows, "rows: range inside the tensor");
  TensorInfo view{.name = of.name,
                  .kind = of.kind,
                  .shape = {count, of.shape.cols},
                  .dtype = of.dtype,
                  .base = x.id,
                  .row_begin = begin};
  return add(std::move(view));
}

Tensor Program::reshape(Tensor x, Shape shape) {
  const TensorInfo& of = info(x.id);
  check(of.shape.size() == shape.size(), "reshape: equal size");
  return add({.name = of.name, .kind = of.kind, .shape = shape, .dtype = of.dtype, .base = x.id});
}

void Program::stage(std::string name) { stages.push_back(std::move(name)); }

Tensor Program::temp(Shape shape, DType dtype) { return add({.shape = shape, .dtype = dtype}); }

Tensor Program::version(Tensor of) {
  const TensorInfo& old = info(of.id);
  TensorInfo next{.name = old.name, .kind = old.kind, .shape = old.shape, .dtype = old.dtype, .base = of.id};
  return add(std::move(next));
}

void Program::widen() {
  for (TensorInfo& t : tensors) {
    if (t.dtype == DType::bf16 || t.dtype == DType::f16) t.dtype = DType::f32;
  }
}

int Program::root(int id) const {
  while (tensors[size_t(id)].base != id) id = tensors[size_t(id)].base;
  return id;
}

int64_t Program::root_byte_offset(int id) const {
  int64_t offset = 0;
  while (tensors[size_t(id)].base != id) {
    const TensorInfo& t = tensors[size_t(id)];
    const TensorInfo& base = tensors[size_t(t.base)];
    offset += t.row_begin * base.shape.cols * int64_t(size_of(base.dtype));
    id = t.base;
  }
  return offset;
}

Cost Program::cost(const Line& line) const {
  Cost cost;
  const auto is_storage = [&](int id) {  // a cache: only the rows that a line adds or reads matter, see below
    const Kind kind = info(root(id)).kind;
    return kind == Kind::buffer || kind == Kind::state;
  };
  for (size_t i = 0; i < line.in.size(); ++i) {
    const int id = line.in[i];
    if (id < 0 || (is_storage(id) && !line.out.empty() && is_storage(line.out.back()))) continue;
    const Kind kind = info(root(id)).kind;
    // A lookup reads as many rows of its table as it writes.
    const bool lookup = kind == Kind::weight && line.streams(i) && line.op->flops == nullptr;
    const double bytes = double(info(lookup ? line.out[0] : id).bytes());
    cost.bytes += bytes;
    if (kind == Kind::weight || kind == Kind::constant) cost.weight_bytes += bytes;
  }
  for (int id : line.out) cost.bytes += is_storage(id) ? 0 : double(info(id).bytes());
  if (line.op->flops != nullptr) cost.flops = line.op->flops(*this, line);
  return cost;
}

}  // namespace flashrt
