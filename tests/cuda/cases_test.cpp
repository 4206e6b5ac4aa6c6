// Every implementation of every op against the op's definition, on every case and in every type.
#include "cases/cases.h"

#include <gtest/gtest.h>

#include "ops/attention_step.h"
#include "ops/flow_step.h"
#include "ops/linear.h"
#include "tests/cuda/line_runner.h"

namespace flashrt::cuda {
namespace {

std::vector<const Case*> tested_cases() {
  std::vector<const Case*> cases;
  for (const Case& c : all_cases()) {
    if (!c.bench) cases.push_back(&c);
  }
  return cases;
}

// What only fusion makes may be refused: the pass then leaves the lines apart. Packed weights may be, where a
// line unpacks them first.
bool may_be_refused(const Program& program, const Line& line) {
  if (line.op == &kLinearOp && program.info(line.in[kW]).dtype == DType::u8)
    return program.compute() != DType::bf16;
  if (line.op == &kFlowStepOp || line.op == &kAttentionStepOp) return true;
  if (line.op != &kLinearOp) return false;
  const auto attrs = line.attrs<LinearAttrs>();
  return attrs.norm.kind != NormKind::none || attrs.rope.head_dim > 0 || line.out.size() > 1;
}

class Cases : public testing::TestWithParam<const Case*> {};

// One implementation of a case's line, twice and in place where the planner may arrange that.
void run_implementation(const Case& c, const Program& program, LineRunner& runner,
                        const Implementation& implementation) {
  const auto first = runner.run(implementation, false);
  for (size_t j = 0; j < first.error.size(); ++j) {
    const DType type = program.info(runner.line().out[j]).dtype;
    EXPECT_LE(first.error[j], type == DType::f32 ? c.tolerance_f32 : c.tolerance) << "result " << j;
  }
  EXPECT_TRUE(first.intact) << "wrote outside its results";
  EXPECT_TRUE(runner.run(implementation, false).bytes == first.bytes) << "two runs differ";
  if (!runner.can_run_in_place()) return;
  const auto aliased = runner.run(implementation, true);
  EXPECT_EQ(aliased.error, first.error) << "in place";
  EXPECT_TRUE(aliased.intact) << "wrote outside its results, in place";
}

void run_case(const Case& c, DType dtype, const Device& device) {
  Program program(dtype);
  CaseRecorder recorder(program, 1);
  c.record(recorder);
  LineRunner runner(program, recorder, device);
  int fitting = 0;
  for (const Implementation& implementation : implementations(*runner.line().op)) {
    if (!runner.fits(implementation)) continue;
    ++fitting;
    SCOPED_TRACE(fmt::format("{} {} in {}: {}", c.op, c.name, name_of(dtype), implementation.name));
    try {
      run_implementation(c, program, runner, implementation);
    } catch (const Error& error) {  // here, so that the trace names the implementation
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_TRUE(fitting > 0 || may_be_refused(program, runner.line()))
      << c.op << " " << c.name << ": no implementation in " << name_of(dtype);
}

TEST_P(Cases, MatchDefinition) {
  const Probe found = probe();
  if (!found.device) GTEST_SKIP() << found.why_not;
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) run_case(*GetParam(), dtype, *found.device);
}

std::string test_name(const testing::TestParamInfo<const Case*>& info) {
  std::string name = info.param->op + "_" + info.param->name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return fmt::format("{}_{}", name, info.index);
}

INSTANTIATE_TEST_SUITE_P(All, Cases, testing::ValuesIn(tested_cases()), test_name);

TEST(Tables, EveryImplementationHasAName) {
  for (const Case& c : all_cases()) {
    Program program(DType::bf16);
    if (c.bench) continue;
    CaseRecorder recorder(program, 1);
    c.record(recorder);
    EXPECT_FALSE(implementations(*program.lines.at(0).op).empty()) << c.op;
    EXPECT_EQ(program.lines.at(0).op->name, c.op);
  }
}

}  // namespace
}  // namespace flashrt::cuda
