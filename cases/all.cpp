// The list of all cases.
#include "cases/all.h"

namespace flashrt {

std::span<const Case> all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    for (auto* of_op :
         {norm_cases, activation_cases, residual_cases, rope_cases, append_cases, attention_cases,
          attention_step_cases, experts_cases, linear_cases, split_cases, concat_cases, embedding_cases,
          position_embedding_cases, image_patches_cases, time_embedding_cases, euler_step_cases,
          flow_step_cases, packed_cases, sample_cases}) {
      for (Case& c : of_op()) all.push_back(std::move(c));
    }
    return all;
  }();
  return cases;
}

}  // namespace flashrt
