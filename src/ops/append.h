// Rows appended to a cache.
#pragma once

#include "ops/record.h"

namespace flashrt {

// cache[*position + r, :] = x[r, :] (position absent: 0). Returns the cache's next version; the memory is the
// same.
Tensor append(Tensor cache, Tensor x, Tensor position, At at = At::current());

extern const OpDef kAppendOp;  // operands x, position, cache; result cache'

}  // namespace flashrt
