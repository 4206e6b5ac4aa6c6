// Runs one recorded line on the device with a chosen implementation, in memory of its own with guards around
// every tensor, and on the CPU with the op's definition.
#pragma once

#include <algorithm>
#include <vector>

#include "cases/cases.h"
#include "cuda/device.h"
#include "cuda/packed_layout.h"
#include "tape/reference.h"

namespace flashrt::cuda {

class LineRunner {
 public:
  // The program holds the one line that `recorder` recorded.
  LineRunner(const Program& program, const CaseRecorder& recorder, const Device& device)
      : program_(program), line_(program.lines.at(0)), device_(device) {
    place();
    fill(recorder);
    memory_ = allocate(image_.size(), "the test's tensors");
  }

  const Line& line() const { return line_; }
  bool fits(const Implementation& implementation) const { return implementation.fits(problem({})); }

  // Whether the result may take the memory of an operand, as the planner would arrange.
  bool can_run_in_place() const {
    const int operand = line_.op->in_place;
    if (operand < 0 || !line_.has(size_t(operand))) return false;
    const TensorInfo &from = program_.info(line_.in[size_t(operand)]), &to = program_.info(line_.out[0]);
    return from.kind == Kind::input && from.shape == to.shape && from.dtype == to.dtype;
  }

  struct Outcome {
    std::vector<double> error;     // of each result, in units
    bool intact = true;            // nothing but results was written
    std::vector<std::byte> bytes;  // of all memory, for comparing two runs
  };

  Outcome run(const Implementation& implementation, bool in_place) {
    std::vector<void*> address(program_.tensors.size(), nullptr);
    for (size_t id = 0; id < address.size(); ++id) address[id] = device_byte(int(id));
    if (in_place) address[size_t(line_.out[0])] = address[size_t(line_.in[size_t(line_.op->in_place)])];
    checked(cudaMemcpy(memory_.get(), image_.data(), image_.size(), cudaMemcpyHostToDevice));
    launch_all(implementation, address);
    Outcome outcome;
    outcome.bytes.resize(image_.size());
    checked(cudaMemcpy(outcome.bytes.data(), memory_.get(), image_.size(), cudaMemcpyDeviceToHost));
    compare(outcome, address);
    return outcome;
  }

 private:
  static constexpr size_t kGuard = 512;

  Problem problem(std::span<void* const> address, void* workspace = nullptr) const {
    return {
        .program = program_, .line = line_, .device = device_, .address = address, .workspace = workspace};
  }
  static bool is_packed(const TensorInfo& t) { return t.kind == Kind::weight && t.dtype == DType::u8; }
  static size_t stored_bytes(const TensorInfo& t) {
    if (is_packed(t)) return packed_layout(*t.weight).bytes;
    const int64_t stride = t.kind == Kind::weight ? weight_stride(t.shape.cols) : t.shape.cols;
    return size_t(t.shape.rows * stride) * size_of(t.dtype);
  }
  std::byte* device_byte(int id) const {
    return static_cast<std::byte*>(memory_.get()) + offset_[size_t(program_.root(id))] +
           program_.root_byte_offset(id);
  }

  void place() {
    offset_.assign(program_.tensors.size(), 0);
    size_t end = kGuard;
    for (size_t id = 0; id < offset_.size(); ++id) {
      if (program_.root(int(id)) != int(id)) continue;
      offset_[id] = end;
      end += (stored_bytes(program_.tensors[id]) + 255) / 256 * 256 + kGuard;
    }
    image_.assign(end, std::byte{0xff});  // results and guards read as NaN
  }

  // The initial contents of all memory, and the operands as the definition reads them.
  void fill(const CaseRecorder& recorder) {
    operands_.resize(program_.tensors.size());
    for (size_t id = 0; id < offset_.size(); ++id) {
      const TensorInfo& t = program_.tensors[id];
      if (program_.root(int(id)) != int(id)) continue;
      const std::span<std::byte> memory(image_.data() + offset_[id], stored_bytes(t));
      if (is_packed(t)) {
        const PackedLayout layout = packed_layout(*t.weight);
        pack_tiles(*t.weight, layout, 0, layout.tiles, memory.data());
        pack_row_scales(*t.weight, layout, memory.data() + layout.row_scale_at);
        continue;
      }
      if (t.kind == Kind::weight) operands_[id] = weight_values(*t.weight);
      if (t.kind == Kind::constant) operands_[id] = *t.values;
      if (!operands_[id].empty()) {
        const size_t stride = memory.size() / size_t(t.shape.rows);
        std::ranges::fill(memory, std::byte{0});
        for (int64_t r = 0; r < t.shape.rows; ++r) {
          std::byte* row = memory.data() + size_t(r) * stride;
          if (t.kind == Kind::weight)
            store_weight_row(*t.weight, r, t.dtype, row);
          else
            for (int64_t c = 0; c < t.shape.cols; ++c)
              store_float(row, t.dtype, size_t(c), operands_[id][size_t(r * t.shape.cols + c)]);
        }
      }
      if (t.kind == Kind::buffer || t.kind == Kind::state) fill_normal(memory, t.dtype, id, 1, 0);
    }
    for (const auto& input : recorder.inputs) {
      input.fill({image_.data() + offset_[size_t(input.id)], program_.info(input.id).bytes()});
    }
    run_definition();
  }

  void run_definition() {
    std::vector<std::byte> memory = image_;
    std::vector<void*> data(program_.tensors.size());
    for (size_t id = 0; id < data.size(); ++id) {
      const size_t root = size_t(program_.root(int(id)));
      data[id] = operands_[root].empty()
                     ? static_cast<void*>(memory.data() + offset_[root] + program_.root_byte_offset(int(id)))
                     : static_cast<void*>(operands_[root].data());
    }
    std::vector<float> scratch(scratch_floats(program_, line_));
    run_reference_line(program_, line_, data, scratch.data());
    for (int id : line_.out) {
      const TensorInfo& t = program_.info(id);
      auto& want = want_.emplace_back(size_t(t.shape.size()));
      for (size_t i = 0; i < want.size(); ++i) want[i] = load_float(data[size_t(id)], t.dtype, i);
    }
  }

  void launch_all(const Implementation& implementation, std::span<void* const> address) {
    const size_t workspace_bytes =
        implementation.workspace != nullptr ? implementation.workspace(problem(address)) : 0;
    const Memory workspace = allocate(workspace_bytes, "a workspace");
    checked(cudaMemset(workspace.get(), 0, std::max<size_t>(workspace_bytes, 1)));
    std::vector<Launch> launches;
    implementation.launch(problem(address, workspace.get()), launches);
    for (Launch& launch : launches) {
      launch.handle = find_kernel(std::string(launch.kernel).c_str());
      const auto* function = reinterpret_cast<const void*>(launch.handle);
      if (launch.shared_bytes > 48 * 1024) {
        checked(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     int(launch.shared_bytes)));
      }
      if (launch.cluster.x * launch.cluster.y * launch.cluster.z > 8) {
        checked(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
      }
      cuda::launch(launch, nullptr);
    }
    checked(cudaDeviceSynchronize());
  }

  void compare(Outcome& outcome, std::span<void* const> address) const {
    std::vector<bool> result(image_.size(), false);
    for (size_t j = 0; j < line_.out.size(); ++j) {
      const TensorInfo& t = program_.info(line_.out[j]);
      const size_t at = size_t(static_cast<std::byte*>(address[size_t(line_.out[j])]) -
                               static_cast<std::byte*>(memory_.get()));
      outcome.error.push_back(
          error_in_units(outcome.bytes.data() + at, want_[j].data(), t.dtype, t.shape.size()));
      std::fill_n(result.begin() + ptrdiff_t(at), t.bytes(), true);
    }
    for (size_t i = 0; i < image_.size(); ++i) outcome.intact &= result[i] || outcome.bytes[i] == image_[i];
  }

  const Program& program_;
  const Line& line_;
  Device device_;
  std::vector<size_t> offset_;                // of each root in the memory
  std::vector<std::byte> image_;              // initial contents
  std::vector<std::vector<float>> operands_;  // weights and constants as f32
  std::vector<std::vector<float>> want_;      // results of the definition
  Memory memory_;
};

}  // namespace flashrt::cuda
