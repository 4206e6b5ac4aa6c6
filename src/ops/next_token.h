// The likeliest token, handed to the program's next run.
#pragma once

#include "ops/record.h"

namespace flashrt {

struct NextToken {
  Tensor token;            // i32 [1, 1]: the first of the largest logits; −1 when one is NaN or +infinity
  Tensor log_probability;  // f32 [1, 1]
};

// Also writes the token to `ids` and *position + 1 to `position`, i32 [1, 1] both: a run that finds them
// there continues the text. A failure leaves token 0. logits f32 [1, vocabulary].
NextToken next_token(Tensor logits, Tensor ids, Tensor position, At at = At::current());

extern const OpDef
    kNextTokenOp;  // operands logits, ids, position; results token, log probability, ids', position'

}  // namespace flashrt
