// Recorded cases: a round trip, and one bad file per rule.
#include "io/case_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "io/safetensors.h"

namespace flashrt {
namespace {

PolicyCase example() {
  PolicyCase c;
  c.images = {{2, 3, std::vector<float>(18, 0.5f)}, {2, 3, std::vector<float>(18, -1)}};
  c.image_mask = {1, 0};
  c.token_ids = {2, 30, 0};
  c.token_mask = {1, 1, 0};
  c.state = {0.25f, -3};
  c.horizon = 2;
  c.action_dim = 3;
  c.noise = {1, 2, 3, 4, 5, 6};
  c.actions = {6, 5, 4, 3, 2, 1};
  c.notes = {{"source", "a test"}};
  return c;
}

class CaseFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }
  std::string error() const {
    try {
      read_policy_case(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      return error.what();
    }
    return "no error";
  }
  // Writes the example, edited as tensors, and returns the reader's message.
  std::string error_after(const std::function<void(std::vector<TensorView>&, TensorMetadata&)>& edit) {
    write_policy_case(path_, example());
    {
      const SafetensorsFile file(path_);
      std::vector<TensorView> tensors = file.tensors();
      TensorMetadata metadata = file.metadata();
      edit(tensors, metadata);
      write_safetensors(path_, tensors, metadata);
    }
    return error();
  }
  std::string error_in(const PolicyCase& c) {
    write_policy_case(path_, c);
    return error();
  }
  const std::string path_ =
      (std::filesystem::path(testing::TempDir()) / fmt::format("flashrt_case_{}.safetensors", getpid()))
          .string();
};

TensorView& named(std::vector<TensorView>& tensors, std::string_view name) {
  for (TensorView& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("no such tensor");
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos || (ADD_FAILURE() << text, false);
}

TEST_F(CaseFile, RoundTrip) {
  write_policy_case(path_, example());
  const PolicyCase c = read_policy_case(path_), expected = example();
  ASSERT_EQ(c.images.size(), 2u);
  EXPECT_EQ(c.images[1].height, 2);
  EXPECT_EQ(c.images[1].values, expected.images[1].values);
  EXPECT_EQ(c.image_mask, expected.image_mask);
  EXPECT_EQ(c.token_ids, expected.token_ids);
  EXPECT_EQ(c.token_mask, expected.token_mask);
  EXPECT_EQ(c.state, expected.state);
  EXPECT_EQ(c.horizon, 2);
  EXPECT_EQ(c.action_dim, 3);
  EXPECT_EQ(c.noise, expected.noise);
  EXPECT_EQ(c.actions, expected.actions);
  EXPECT_EQ(c.notes, expected.notes);
}

TEST_F(CaseFile, TheStateMayBeAbsent) {
  PolicyCase c = example();
  c.state.clear();
  EXPECT_EQ(error_in(c), "no error");
}

TEST_F(CaseFile, RefusesTheWrongShape) {
  EXPECT_TRUE(contains(error_after([](auto&, auto& metadata) { metadata["format"] = "flashrt-case-9"; }),
                       "metadata format: expected flashrt-case-1, found \"flashrt-case-9\""));
  EXPECT_TRUE(contains(error_after([](auto&, auto& metadata) { metadata.erase("kind"); }),
                       "metadata kind: expected policy, found none"));
  EXPECT_TRUE(
      contains(error_after([](auto& tensors, auto&) { tensors.pop_back(); }), "out.actions is missing"));
  EXPECT_TRUE(contains(error_after([](auto& tensors, auto&) { named(tensors, "in.state").name = "in.stat"; }),
                       "unexpected tensor \"in.stat\""));
  EXPECT_TRUE(
      contains(error_after([](auto& tensors, auto&) { named(tensors, "in.image.1").name = "in.image.2"; }),
               "in.image_mask has 2 values for 1 images"));
  EXPECT_TRUE(
      contains(error_after([](auto& tensors, auto&) { named(tensors, "in.state").dtype = DType::i32; }),
               "in.state: expected f32 of rank 1, found i32 [2]"));
  EXPECT_TRUE(contains(error_after([](auto& tensors, auto&) { named(tensors, "in.noise").shape = {6}; }),
                       "in.noise: expected f32 of rank 2, found f32 [6]"));
  EXPECT_TRUE(contains(error_after([](auto& tensors, auto&) {
                         named(tensors, "out.actions").shape = {3, 2};
                       }),
                       "out.actions: expected shape [2, 3], found [3, 2]"));
  EXPECT_TRUE(contains(error_after([](auto& tensors, auto&) {
                         named(tensors, "in.image.0").shape = {2, 3, 3};
                       }),
                       "in.image.0: expected [3, height, width]"));
}

TEST_F(CaseFile, RefusesBadValues) {
  const auto with = [&](const std::function<void(PolicyCase&)>& edit) {
    PolicyCase c = example();
    edit(c);
    return error_in(c);
  };
  EXPECT_TRUE(
      contains(with([](PolicyCase& c) { c.state[1] = std::nanf(""); }), "in.state: element 1 is nan"));
  EXPECT_TRUE(contains(with([](PolicyCase& c) { c.noise[5] = INFINITY; }), "in.noise: element 5 is inf"));
  EXPECT_TRUE(contains(with([](PolicyCase& c) { c.images[0].values[3] = 1.5f; }), "1.5 is outside [-1, 1]"));
  EXPECT_TRUE(contains(with([](PolicyCase& c) { c.image_mask[0] = 2; }), "element 0 is 2, expected 0 to 1"));
  EXPECT_TRUE(contains(with([](PolicyCase& c) { c.token_ids[1] = -1; }), "element 1 is -1, expected 0 to"));
  EXPECT_TRUE(contains(with([](PolicyCase& c) { c.token_mask.pop_back(); }), "2 values for 3 tokens"));
}

}  // namespace
}  // namespace flashrt
