// The tables of implementations, one per op.
#pragma once

#include "cuda/implementation.h"

namespace flashrt::cuda {

std::span<const Implementation> norm_table();
std::span<const Implementation> next_token_table();
std::span<const Implementation> sample_table();
std::span<const Implementation> experts_table();
std::span<const Implementation> activation_table();
std::span<const Implementation> residual_table();
std::span<const Implementation> rope_table();
std::span<const Implementation> rope_append_table();
std::span<const Implementation> append_table();
std::span<const Implementation> attention_table();
std::span<const Implementation> attention_step_table();
std::span<const Implementation> linear_table();
std::span<const Implementation> split_table();
std::span<const Implementation> concat_table();
std::span<const Implementation> embedding_table();
std::span<const Implementation> position_embedding_table();
std::span<const Implementation> image_patches_table();
std::span<const Implementation> time_embedding_table();
std::span<const Implementation> euler_step_table();
std::span<const Implementation> flow_step_table();
std::span<const Implementation> unpack_table();

}  // namespace flashrt::cuda
