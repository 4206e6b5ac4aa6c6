// The cases of each op, gathered by all_cases().
#pragma once

#include "cases/cases.h"

namespace flashrt {

std::vector<Case> norm_cases();
std::vector<Case> activation_cases();
std::vector<Case> residual_cases();
std::vector<Case> rope_cases();
std::vector<Case> append_cases();
std::vector<Case> attention_cases();
std::vector<Case> attention_step_cases();
std::vector<Case> experts_cases();
std::vector<Case> linear_cases();
std::vector<Case> split_cases();
std::vector<Case> concat_cases();
std::vector<Case> embedding_cases();
std::vector<Case> position_embedding_cases();
std::vector<Case> image_patches_cases();
std::vector<Case> time_embedding_cases();
std::vector<Case> euler_step_cases();
std::vector<Case> flow_step_cases();
std::vector<Case> packed_cases();
std::vector<Case> sample_cases();

}  // namespace flashrt
