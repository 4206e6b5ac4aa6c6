// The fusion patterns, in the order in which they are tried. Each rewrites lines into one that the ops
// define.
#pragma once

#include "tape/program.h"

namespace flashrt {

bool place_concat(FuseContext& context, size_t line);   // producers write into the concatenation
bool narrow_linear(FuseContext& context, size_t line);  // rows of w that only feed unread splits are dropped
bool fuse_activation(FuseContext& context, size_t line);      // linear → activation
bool fuse_residual(FuseContext& context, size_t line);        // linear → residual
bool pack_attention(FuseContext& context, size_t line);       // split → attention: read q | k | v in place
bool fuse_attention_step(FuseContext& context, size_t line);  // one token: split … attention in one line
bool fuse_rope_append(FuseContext& context, size_t line);     // split → rope, rope, append, append
bool fuse_linear_rope(FuseContext& context, size_t line);     // linear → rope_append
bool fuse_flow_step(FuseContext& context, size_t line);       // norm → linear → euler_step → linear
bool align_width(FuseContext& context,
                 size_t line);  // linear → linear: a wide result's rows start on 128 bytes
bool carry_norm(FuseContext& context, size_t line);  // linear → norm → linear: sums, not a pass
bool fuse_norm(FuseContext& context, size_t line);   // norm → linear

inline constexpr Pattern kPatterns[] = {
    place_concat,     narrow_linear,    fuse_activation, fuse_residual, pack_attention, fuse_attention_step,
    fuse_rope_append, fuse_linear_rope, fuse_flow_step,  align_width,   carry_norm,     fuse_norm};

// The values of a vector that is known when the program is built, or null.
std::shared_ptr<const std::vector<float>> known_vector(const Program& program, int id);

}  // namespace flashrt
