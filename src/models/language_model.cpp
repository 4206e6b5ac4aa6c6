// The table of families.
#include "models/language_model.h"

#include "base/error.h"
#include "models/gpt2.h"
#include "models/llama.h"

namespace flashrt {

namespace {

using Record = void (*)(Program&, const LmConfig&, const WeightSource&, const LmShape&);

struct Family {
  const char* name;  // model_type
  Record record;
};
constexpr Family kFamilies[] = {
    {"llama", record_llama}, {"mistral", record_llama}, {"qwen2", record_llama},     {"qwen3", record_llama},
    {"gemma", record_llama}, {"mixtral", record_llama}, {"qwen3_moe", record_llama}, {"gpt2", record_gpt2},
};

}  // namespace

void record_language_model(Program& program, const LmConfig& config, const WeightSource& source,
                           const LmShape& shape) {
  check(shape.rows > 0 && shape.rows <= shape.capacity, "a run's rows fit the cache");
  if (config.learned_positions && shape.capacity > config.positions) {
    fail("context: expected at most {}, the positions that this model has learned, found {}",
         config.positions, shape.capacity);
  }
  for (const Family& family : kFamilies) {
    if (config.family == family.name) return family.record(program, config, source, shape);
  }
  fail("model_type {}: there is no such family", config.family);
}

}  // namespace flashrt
