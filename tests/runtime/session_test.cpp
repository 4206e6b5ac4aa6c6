// Policy sessions: determinism, what is refused and with which words, buckets and cameras.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
#include "base/philox.h"
#include "tests/runtime/tiny_policy.h"

namespace flashrt {
namespace {

PolicySession open_session(PolicyFamily family, PolicyOptions options = {},
                           Precision precision = Precision::f32) {
  return PolicySession(load_policy_checkpoint(tiny_policy(family)), Backend::open("cpu", precision),
                       std::move(options), {.poison = true});
}

std::vector<float> actions(PolicySession& session, const Observation& observation) {
  const ActionChunk chunk = session.act(observation);
  return {chunk.actions.begin(), chunk.actions.end()};
}

// The message of the Error(input) that `body` throws.
template <class F>
std::string refusal(F&& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

void expect_words(const std::string& text, std::initializer_list<const char*> words) {
  for (const char* word : words) EXPECT_NE(text.find(word), text.npos) << "'" << word << "' in: " << text;
}

class Session : public testing::TestWithParam<PolicyFamily> {};

TEST_P(Session, SameSeedSameBitsOverAHundredCalls) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  const std::vector<float> first = actions(session, observation);
  ASSERT_EQ(first.size(), 4u * 5u);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(actions(session, observation), first) << "call " << i;
  PolicySession again = open_session(GetParam());
  EXPECT_EQ(actions(again, observation), first) << "a new session";
}

TEST_P(Session, TheSeedPicturesStateAndPromptAllMatter) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  const std::vector<float> first = actions(session, observation);
  TinyObservation other = observation;
  other.seed = 4;
  EXPECT_NE(actions(session, other), first);
  other = TinyObservation(session);
  other.pictures[1][100] ^= 0x80;
  EXPECT_NE(actions(session, other), first);
  other = TinyObservation(session);
  other.state[2] += 0.5f;
  EXPECT_NE(actions(session, other), first);
  other = TinyObservation(session);
  other.prompt = "pick up the blue block";
  EXPECT_NE(actions(session, other), first);
  EXPECT_EQ(actions(session, observation), first) << "and nothing of it lingers";
}

TEST_P(Session, GivenNoiseReplacesTheSeed) {
  PolicySession session = open_session(GetParam());
  const TinyObservation tiny(session);
  Observation observation = tiny;
  const std::vector<float> drawn = actions(session, observation);
  std::vector<float> noise(size_t(session.config().horizon * session.config().action_dim));
  philox_normal(observation.seed, noise);
  observation.noise = noise;
  observation.seed = 99;
  EXPECT_EQ(actions(session, observation), drawn);
  observation.noise = std::span(noise).first(7);
  expect_words(refusal([&] { session.act(observation); }), {"noise", "[4, 32]", "found 7"});
}

TEST_P(Session, EveryResultCarriesTimes) {
  PolicySession session = open_session(GetParam());
  const PolicyTimes t = session.act(TinyObservation(session)).times;
  for (float stage : {t.preprocess, t.vision, t.prefix, t.action, t.post}) EXPECT_GE(stage, 0);
  EXPECT_GE(t.total, t.vision + t.prefix + t.action);
}

// Cameras may come in any order and may be missing; the network sees those that are there.
TEST_P(Session, CamerasByNameInAnyOrder) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  const std::vector<float> both = actions(session, observation);
  std::swap(observation.cameras[0], observation.cameras[1]);
  EXPECT_EQ(actions(session, observation), both);
  observation.cameras.resize(1);
  EXPECT_NE(actions(session, observation), both);
}

TEST_P(Session, RefusesCamerasItDoesNotKnow) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  observation.cameras[1].camera = "ceiling";
  expect_words(refusal([&] { session.act(observation); }),
               {"ceiling", "exterior_camera_left", "wrist_camera_right_arm"});
  observation.cameras[1].camera = observation.cameras[0].camera;
  expect_words(refusal([&] { session.act(observation); }), {"exterior_camera_left", "twice"});
  observation.cameras.clear();
  expect_words(refusal([&] { session.act(observation); }), {"at least one camera"});
}

TEST_P(Session, RefusesStatesThatDoNotFit) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  observation.state.pop_back();
  expect_words(refusal([&] { session.act(observation); }), {"state", "6", "5"});
  observation.state = {0, 0, NAN, 0, 0, 0};
  expect_words(refusal([&] { session.act(observation); }), {"state[2]", "not finite"});
  observation.state = {0, 0, 0, 0, 0, INFINITY};
  expect_words(refusal([&] { session.act(observation); }), {"state[5]", "not finite"});
  observation.state.assign(6, 0.f);
  EXPECT_NO_THROW(session.act(observation)) << "a refusal leaves the session usable";
}

TEST_P(Session, RefusesAnEmptyPrompt) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  for (const char* empty : {"", "   ", "\n\t "}) {
    observation.prompt = empty;
    expect_words(refusal([&] { session.act(observation); }), {"prompt is empty"});
  }
}

// Truncation is the source's; the warning is ours, once per text.
TEST_P(Session, CutsAnOverlongPromptWithAWarning) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  observation.prompt.clear();
  for (int i = 0; i < 200; ++i) observation.prompt += "pick up the block and ";
  testing::internal::CaptureStderr();
  const std::vector<float> cut = actions(session, observation);
  const std::string warning = testing::internal::GetCapturedStderr();
  expect_words(warning, {"warning", "64 tokens"});
  testing::internal::CaptureStderr();
  EXPECT_EQ(actions(session, observation), cut);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "once is enough";
}

TEST_P(Session, RefusesPicturesOfNoSize) {
  PolicySession session = open_session(GetParam());
  TinyObservation observation(session);
  observation.cameras[0].width = 0;
  EXPECT_NE(refusal([&] { session.act(observation); }), "");
  observation.cameras[0] = {.camera = "exterior_camera_left", .rgb = nullptr, .width = 4, .height = 4};
  expect_words(refusal([&] { session.act(observation); }), {"exterior_camera_left", "no pixels"});
}

TEST_P(Session, RobotsMustFitTheCheckpoint) {
  expect_words(refusal([&] { open_session(GetParam(), {.robot = "toaster"}); }),
               {"toaster", "libero", "aloha"});
}

TEST_P(Session, ACheckpointWithoutATokenizerSaysSo) {
  PolicyCheckpoint checkpoint = load_policy_checkpoint(tiny_policy(GetParam()));
  checkpoint.tokenizer.clear();
  expect_words(refusal([&] { PolicySession(std::move(checkpoint), Backend::open("cpu", Precision::f32)); }),
               {"tokenizer", "--tokenizer"});
}

// The room that a bucket leaves behind a prompt is never seen by the network.
TEST_P(Session, PaddingOfABucketChangesNothing) {
  PolicySession large = open_session(GetParam(), {.text_bucket = 64}),
                small = open_session(GetParam(), {.text_bucket = 1});
  TinyObservation observation(large);
  for (const char* prompt : {"push", "pick up the red block and the other one", "push"}) {
    observation.prompt = prompt;
    const std::vector<float> padded = actions(large, observation), tight = actions(small, observation);
    for (size_t i = 0; i < padded.size(); ++i)
      EXPECT_NEAR(tight[i], padded[i], 1e-4f * std::max(1.f, std::abs(padded[i]))) << prompt;
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, Session, testing::Values(PolicyFamily::pi0, PolicyFamily::pi05),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace flashrt
