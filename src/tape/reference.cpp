// The CPU executor: memory, conversions around each definition, and the loop over lines.
#include "tape/reference.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace flashrt {

namespace {

bool is_streamed(const Program& program, const Line& line, size_t i) {
  return line.streams(i) && program.info(program.root(line.in[i])).kind == Kind::weight;
}

bool needs_f32_copy(const Program& program, const Line& line, size_t i) {
  return line.in[i] >= 0 && !is_streamed(program, line, i) && is_floating(program.info(line.in[i]).dtype) &&
         program.info(program.root(line.in[i])).kind != Kind::weight &&
         program.info(program.root(line.in[i])).kind != Kind::constant &&
         program.info(line.in[i]).dtype != DType::f32;
}

// A new version of an operand's memory: the definition writes only the rows it appends, in place.
bool is_version(const Program& program, const Line& line, size_t j) {
  const int root = program.root(line.out[j]);
  return program.info(root).kind == Kind::buffer || program.info(root).kind == Kind::state;
}

bool needs_f32_result(const Program& program, const Line& line, size_t j) {
  return program.info(line.out[j]).dtype != DType::f32 && !is_version(program, line, j);
}

void to_f32(const void* from, DType dtype, int64_t count, float* to) {
  if (dtype == DType::bf16 && reinterpret_cast<uintptr_t>(from) % 2 == 0) {
    const auto* v = static_cast<const uint16_t*>(from);
    for (int64_t i = 0; i < count; ++i) to[i] = bf16_to_f32(v[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = load_float(from, dtype, size_t(i));
  }
}

}  // namespace

void Weight::ColumnFactor::apply(float* row) const {
  const size_t n = values.size();
  for (size_t c = 0; c < n; ++c) row[c] *= values[c];
  if (!centred) return;
  double sum = 0;
  for (size_t c = 0; c < n; ++c) sum += row[c];
  const float mean = float(sum / double(n));
  for (size_t c = 0; c < n; ++c) row[c] -= mean;
}

void read_weight_row(const Weight& weight, int64_t row, float* out) {
  for (const Weight::Part& part : weight.parts) {
    if (row >= part.rows) {
      row -= part.rows;
      continue;
    }
    if (part.packed != nullptr)
      quant::decode(*part.packed, part.first + row, 1, out);
    else
      to_f32(part.data + size_t(row * part.stride) * size_of(part.dtype), part.dtype, weight.shape.cols, out);
    if (part.factor != nullptr) part.factor->apply(out);
    return;
  }
  check(false, "a row of the weight");
}

// Half-type elements `out` of the values of a centred row. Values up to 0.6 units from their element move
// first, then up to 0.8 and 1, each only if that brings the sum nearer to 0.
static void keep_centred(std::span<const float> values, DType dtype, uint16_t* out) {
  const auto at = [&](size_t i) { return double(load_float(out, dtype, i)); };
  double sum = 0, size = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += at(i), size += std::abs(at(i));
  const double enough = size / double(values.size()) * 0x1p-12;
  for (const double most : {0.6, 0.8, 1.0}) {
    for (size_t i = 0; i < values.size() && std::abs(sum) > enough; ++i) {
      const uint16_t before = out[i];
      if ((before & 0x7fff) == 0) continue;
      const double value = at(i);
      out[i] = uint16_t(before + ((value > 0) == (sum > 0) ? -1 : 1));  // towards the sum's other side
      const double after = at(i), unit = std::abs(after - value);
      const bool nearer = std::abs(sum + after - value) < std::abs(sum);
      if (nearer && std::abs(after - double(values[i])) <= most * unit)
        sum += after - value;
      else
        out[i] = before;
    }
  }
}

static bool row_is_centred(const Weight& weight, int64_t row) {
  for (const Weight::Part& part : weight.parts) {
    if (row < part.rows) return part.factor != nullptr && part.factor->centred;
    row -= part.rows;
  }
  return false;
}

void store_weight_row(const Weight& weight, int64_t row, DType dtype, void* out) {
  const size_t count = size_t(weight.shape.cols);
  thread_local std::vector<float> values;
  values.resize(count);
  read_weight_row(weight, row, values.data());
  for (size_t i = 0; i < count; ++i) store_float(out, dtype, i, values[i]);
  const bool half = dtype == DType::bf16 || dtype == DType::f16;
  if (half && row_is_centred(weight, row)) keep_centred(values, dtype, static_cast<uint16_t*>(out));
}

std::vector<float> weight_values(const Weight& weight) {
  std::vector<float> values(size_t(weight.shape.size()));
  for (int64_t r = 0; r < weight.shape.rows; ++r)
    read_weight_row(weight, r, values.data() + r * weight.shape.cols);
  return values;
}

const Weight* RefCall::weight(size_t i) const {
  const int id = line.input(i);
  return id >= 0 ? program.info(program.root(id)).weight.get() : nullptr;
}

size_t scratch_floats(const Program& program, const Line& line) {
  size_t total = 0;
  for (size_t i = 0; i < line.in.size(); ++i) {
    if (needs_f32_copy(program, line, i)) total += size_t(program.info(line.in[i]).shape.size());
  }
  for (size_t j = 0; j < line.out.size(); ++j) {
    if (needs_f32_result(program, line, j)) total += size_t(program.info(line.out[j]).shape.size());
  }
  return total;
}

void run_reference_line(const Program& program, const Line& line, std::span<void* const> data,
                        float* scratch) {
  RefCall call{program, line};
  for (size_t i = 0; i < line.in.size(); ++i) {
    if (line.in[i] < 0) continue;
    const TensorInfo& info = program.info(line.in[i]);
    call.raw_in[i] = data[size_t(line.in[i])];
    if (needs_f32_copy(program, line, i)) {
      to_f32(call.raw_in[i], info.dtype, info.shape.size(), scratch);
      call.f32_in[i] = scratch;
      scratch += info.shape.size();
    } else {
      call.f32_in[i] = static_cast<const float*>(call.raw_in[i]);
    }
  }
  for (size_t j = 0; j < line.out.size(); ++j) {
    call.raw_outputs[j] = data[size_t(line.out[j])];
    call.f32_out[j] = static_cast<float*>(call.raw_outputs[j]);
    if (needs_f32_result(program, line, j)) {
      call.f32_out[j] = scratch;
      scratch += program.info(line.out[j]).shape.size();
    }
  }
  line.op->reference(call);
  for (size_t j = 0; j < line.out.size(); ++j) {
    if (!needs_f32_result(program, line, j)) continue;
    const TensorInfo& info = program.info(line.out[j]);
    for (int64_t i = 0; i < info.shape.size(); ++i) {
      store_float(call.raw_outputs[j], info.dtype, size_t(i), call.f32_out[j][i]);
    }
  }
}

ReferenceExecutor::ReferenceExecutor(Program& program, bool poison, const ReferenceExecutor* state_of)
    : program_(program), plan_(plan_memory(program)), poison_(poison) {
  arena_.resize(size_t(plan_.arena_bytes));
  data_.assign(program.tensors.size(), nullptr);
  converted_.resize(program.tensors.size());

  std::vector<bool> read(program.tensors.size(), false);
  size_t scratch = 0;
  for (const Line& line : program.lines) {
    scratch = std::max(scratch, scratch_floats(program, line));
    for (size_t i = 0; i < line.in.size(); ++i) {
      if (line.in[i] >= 0 && !is_streamed(program, line, i)) read[size_t(program.root(line.in[i]))] = true;
    }
  }
  scratch_.resize(scratch);

  std::vector<int64_t> state_offset(program.tensors.size(), -1);
  int64_t state_bytes = 0;
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    if (program.root(int(id)) == int(id) && program.tensors[id].kind == Kind::state) {
      state_offset[id] = state_bytes;
      state_bytes += int64_t(program.tensors[id].bytes() + 63) / 64 * 64;
    }
  }
  state_ =
      state_of != nullptr ? state_of->state_ : std::make_shared<std::vector<std::byte>>(size_t(state_bytes));
  check(state_->size() == size_t(state_bytes), "programs that share a state have the same state tensors");

  for (size_t id = 0; id < program.tensors.size(); ++id) {
    const size_t root = size_t(program.root(int(id)));
    const TensorInfo& base = program.tensors[root];
    int64_t offset = program.root_byte_offset(int(id));
    std::byte* memory = nullptr;
    switch (base.kind) {
      case Kind::weight:
        if (!read[root]) continue;
        if (converted_[root].empty()) converted_[root] = weight_values(*base.weight);
        memory = reinterpret_cast<std::byte*>(converted_[root].data());
        offset = offset / int64_t(size_of(base.dtype)) * int64_t(sizeof(float));  // held as f32
        break;
      case Kind::constant:
        memory = reinterpret_cast<std::byte*>(const_cast<float*>(base.values->data()));
        offset = offset / int64_t(size_of(base.dtype)) * int64_t(sizeof(float));  // held as f32
        break;
      case Kind::state: memory = state_->data() + state_offset[root]; break;
      default:
        if (plan_.offset[root] < 0) continue;
        memory = arena_.data() + plan_.offset[root];
    }
    data_[id] = memory + offset;
  }
}

std::span<std::byte> ReferenceExecutor::input(std::string_view name) {
  for (const auto& [known, id] : program_.inputs) {
    if (known == name) return {static_cast<std::byte*>(data_[size_t(id)]), program_.info(id).bytes()};
  }
  fail("program has no input '{}'", name);
}

std::span<const std::byte> ReferenceExecutor::output(std::string_view name) const {
  for (const auto& [known, id] : program_.outputs) {
    if (known == name) return {static_cast<const std::byte*>(data_[size_t(id)]), program_.info(id).bytes()};
  }
  fail("program has no output '{}'", name);
}

void ReferenceExecutor::prepare_run() noexcept {
  if (!poison_) return;
  for (int64_t i = plan_.input_begin + plan_.input_bytes; i < plan_.arena_bytes; ++i) {
    arena_[size_t(i)] = std::byte{0xff};  // every float type reads it as NaN
  }
}

void ReferenceExecutor::run_line(size_t index) noexcept {
  run_reference_line(program_, program_.lines[index], data_, scratch_.data());
}

void ReferenceExecutor::run() noexcept {
  prepare_run();
  for (size_t i = 0; i < program_.lines.size(); ++i) run_line(i);
}

}  // namespace flashrt
