// One token drawn from logits and handed to the program's next run.
#pragma once

#include "base/sampling.h"
#include "ops/next_token.h"

namespace flashrt {

// In order: penalties for tokens seen, bias, temperature, top-k, top-p, min-p; probabilities are of the
// candidates that the filter before left. The random number is Philox of the seed and the position, so a
// token depends on what is before it and on nothing else. Token −1 when a logit is NaN or +infinity; the log
// probability is that of the logits as given. Also writes `ids`, `position` (as next_token does) and counts
// the token in `seen`.
//   logits    f32 [1, vocabulary]
//   bias      f32 [1, vocabulary]: added to logits
//   seen      i32 [1, vocabulary]: twice a token's count in the answer, plus 1 when the prompt has it
//   settings  i32 [1, kSamplingWords]: a SamplingSettings
//   ids, position  i32 [1, 1]
NextToken sample(Tensor logits, Tensor bias, Tensor seen, Tensor settings, Tensor ids, Tensor position,
                 At at = At::current());

// Operands in that order; results token, log probability, ids', position', seen'.
extern const OpDef kSampleOp;

}  // namespace flashrt
