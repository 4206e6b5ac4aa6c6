// The greedy choice: ties, logits that are no numbers, and what it leaves for the next run.
#include "ops/next_token.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace flashrt {
namespace {

struct Step {
  Program p;
  Tensor logits, ids, position;
  explicit Step(int64_t vocabulary)
      : logits(p.input("logits", {1, vocabulary}, DType::f32)),
        ids(p.input("ids", {1, 1}, DType::i32)),
        position(p.input("position", {1, 1}, DType::i32)) {
    const NextToken next = next_token(logits, ids, position);
    p.output("token", next.token);
    p.output("log_probability", next.log_probability);
  }
};

template <class T>
T value_of(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

struct Chosen {
  int32_t token, next_id, next_position;
  float log_probability;
};

Chosen choose(std::vector<float> logits) {
  Step step(int64_t(logits.size()));
  ReferenceExecutor executor(step.p);
  std::memcpy(executor.input("logits").data(), logits.data(), logits.size() * sizeof(float));
  const int32_t position = 41;
  std::memcpy(executor.input("position").data(), &position, sizeof position);
  executor.run();
  return {value_of<int32_t>(executor.output("token")), value_of<int32_t>(executor.input("ids")),
          value_of<int32_t>(executor.input("position")), value_of<float>(executor.output("log_probability"))};
}

TEST(NextToken, TakesTheFirstOfTheLargest) {
  const Chosen c = choose({0.5f, 2, -1, 2, 1});
  EXPECT_EQ(c.token, 1);
  EXPECT_EQ(c.next_id, 1);
  EXPECT_EQ(c.next_position, 42);
  const double sum = std::exp(-1.5) + 1 + std::exp(-3) + 1 + std::exp(-1);
  EXPECT_NEAR(c.log_probability, -std::log(sum), 1e-6);
}

TEST(NextToken, OneLogit) {
  const Chosen c = choose({-7});
  EXPECT_EQ(c.token, 0);
  EXPECT_EQ(c.log_probability, 0);
}

TEST(NextToken, NoNumberIsSaid) {
  EXPECT_EQ(choose({1, NAN, 3}).token, -1);
  EXPECT_EQ(choose({1, INFINITY, 3}).token, -1);
  EXPECT_EQ(choose({1, NAN, 3}).next_id, 0) << "inside every table";
  EXPECT_EQ(choose({1, -INFINITY, 3}).token, 2);
}

}  // namespace
}  // namespace flashrt
