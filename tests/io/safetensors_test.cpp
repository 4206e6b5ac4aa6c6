// safetensors: the published fixtures, round trips, and one bad file per rule, each named by its message.
#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace flashrt {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::path(testing::TempDir()) / fmt::format("flashrt_safetensors_{}", getpid());
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string operator/(const char* name) const { return (path / name).string(); }
};

std::string file_bytes(const std::string& header, size_t data) {
  std::string bytes(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + std::string(data, '\1');
}

SafetensorsFile parse(const std::string& bytes) {
  return {std::as_bytes(std::span(bytes)), "mem.safetensors"};
}

// The message of the error that `action` must end with.
template <class F>
std::string error_of(F&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    return error.what();
  }
  return "no error";
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Safetensors, ReadsTheEmptyFile) {
  const std::string bytes = file_bytes("{}      ", 0);
  EXPECT_TRUE(parse(bytes).tensors().empty());
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const std::string bytes =
      file_bytes(R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]},"__metadata__":{"format":"pt"},)"
                 R"("attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]},)"
                 R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[28,28]}, )"
                 R"("s":{"dtype":"U8","shape":[],"data_offsets":[28,29]}}  )",
                 29);
  const SafetensorsFile file = parse(bytes);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "attn.0");  // by offset
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.find("attn.0")->shape, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(file.find("b")->dtype, DType::bf16);
  EXPECT_EQ(element_count(*file.find("b")), 2);
  EXPECT_EQ(element_count(*file.find("e")), 0);
  EXPECT_EQ(element_count(*file.find("s")), 1);
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Safetensors, UnreadableTypesAreErrorsOnlyWhenUsed) {
  const std::string bytes = file_bytes(R"({"q":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},)"
                                       R"("x":{"dtype":"NEW","shape":[4],"data_offsets":[2,5]},)"
                                       R"("ok":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
                                       6);
  const SafetensorsFile file = parse(bytes);
  EXPECT_NE(file.find("ok"), nullptr);
  EXPECT_EQ(file.unreadable().size(), 2u);
  EXPECT_NE(error_of([&] { file.find("x"); }).find("element type \"NEW\" is not supported"),
            std::string::npos);
}

struct BadHeader {
  const char* header;
  size_t data;
  const char* message;
};

TEST(Safetensors, RefusesEveryBrokenRule) {
  const BadHeader cases[] = {
      {R"( {"a":{}})", 0, "does not begin with"},
      {R"([1,2,3])", 0, "does not begin with"},
      {R"({"a":)", 0, "malformed JSON"},
      {R"({} x)", 0, "malformed JSON"},
      {"{\"\xff\":1}", 0, "malformed JSON"},
      {R"({"a":1})", 0, "/a: expected an object, found 1"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "duplicate key \"a\""},
      {R"({"a":{"dtype":"U8","shape":[[[1]]],"data_offsets":[0,1]}})", 1, "nested deeper"},
      {R"({"__metadata__":{"a":1}})", 0, "/__metadata__/a: expected a string, found 1"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "the field \"data_offsets\" is missing"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1, "expected only the fields"},
      {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "/a/dtype: expected a string, found 8"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "/a/shape/0: expected an integer"},
      {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "/a/shape/0: expected an integer"},
      {R"({"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}})", 1, "/a/shape/0: expected"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "expected begin ≤ end"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "expected [begin, end]"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616]}})", 1,
       "expected an integer"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", 7, "span 7 bytes"},
      {R"({"a":{"dtype":"F32","shape":[4503599627370496,4503599627370496],"data_offsets":[0,0]}})", 0,
       "more than 2^64"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2, "span 2 bytes"},
      {R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1,
       "16 dimensions"},
      {R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "tensor name of 0 bytes"},
      {R"({"a\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "without NUL"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
       5, "hole before it"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "hole before it"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1, "truncated"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3, "trailing bytes"},
      {R"({"a":{"dtype":"NEW","shape":[2],"data_offsets":[0,9]}})", 3, "truncated"},
  };
  for (const BadHeader& bad : cases) {
    const std::string bytes = file_bytes(bad.header, bad.data);
    const std::string message = error_of([&] { parse(bytes); });
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.header << "\n  " << message;
    EXPECT_EQ(message.find("mem.safetensors"), 0u) << message;
  }
  const std::string long_name =
      file_bytes("{\"" + std::string(1025, 'n') + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1);
  EXPECT_NE(error_of([&] { parse(long_name); }).find("tensor name of 1025 bytes"), std::string::npos);
}

TEST(Safetensors, RefusesBadHeaderLengths) {
  const auto with_length = [](uint64_t length) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes + "{}";
  };
  EXPECT_NE(error_of([] { parse("1234567"); }).find("too short"), std::string::npos);
  EXPECT_NE(error_of([&] { parse(with_length(1)); }).find("header length 1:"), std::string::npos);
  EXPECT_NE(error_of([&] { parse(with_length(100'000'001)); }).find("header length 100000001"),
            std::string::npos);
  EXPECT_NE(error_of([&] { parse(with_length(~uint64_t{0})); }).find("header length"), std::string::npos);
  EXPECT_NE(error_of([&] { parse(with_length(3)); }).find("only 2 bytes follow"), std::string::npos);
  EXPECT_TRUE(parse(with_length(2)).tensors().empty());
}

TEST(Safetensors, EveryTruncationOfAGoodFileIsAnError) {
  const std::string good = file_bytes(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 3);
  EXPECT_EQ(parse(good).tensors().size(), 1u);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(error_of([&] { parse(good.substr(0, size)); }), "no error") << size;
  }
}

TEST(Safetensors, WritesWhatItReads) {
  const Folder folder;
  const float values[] = {1, -2, 3.5f};
  const uint16_t half[] = {0x3f80};
  const TensorView tensors[] = {{"x \"quoted\"", DType::f32, {3}, std::as_bytes(std::span(values))},
                                {"h", DType::bf16, {1, 1}, std::as_bytes(std::span(half))}};
  const std::string path = folder / "out.safetensors";
  write_safetensors(path, tensors, {{"k", "v\n"}});
  const TensorStore store(path);
  EXPECT_EQ(std::memcmp(store.find("x \"quoted\"")->bytes.data(), values, sizeof values), 0);
  EXPECT_EQ(store.find("h")->shape, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(store.file_of(*store.find("h")), path);
  EXPECT_EQ(SafetensorsFile(path).metadata().at("k"), "v\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()), 1);  // no temporary
}

TEST(Safetensors, AnUnfinishedWriterLeavesNothing) {
  const Folder folder;
  { SafetensorsWriter writer(folder / "x.safetensors", {{"a", DType::f32, {2}}}); }
  EXPECT_TRUE(fs::is_empty(folder.path));
  SafetensorsWriter writer(folder / "x.safetensors", {{"a", DType::f32, {2}}});
  const float one = 1;
  EXPECT_NE(error_of([&] { writer.append(std::as_bytes(std::span(&one, 1))); }).find("4 bytes given"),
            std::string::npos);
}

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    write_file(folder_ / "m-1.safetensors",
               file_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
    write_file(folder_ / "m-2.safetensors",
               file_bytes(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2));
  }
  std::string message(const std::string& weight_map) {
    write_file(folder_ / "model.safetensors.index.json",
               R"({"metadata":{"total_size":3},"weight_map":)" + weight_map + "}");
    return error_of([&] { TensorStore store(folder_.path.string()); });
  }
  Folder folder_;
};

TEST_F(Shards, AreReadAsOneStore) {
  EXPECT_EQ(message(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})"), "no error");
  const TensorStore store(folder_.path.string());
  EXPECT_EQ(store.tensors().size(), 2u);
  EXPECT_EQ(store.file_of(*store.find("b")), folder_ / "m-2.safetensors");
}

TEST_F(Shards, RefuseBadIndexes) {
  const auto contains = [](const std::string& text, const char* part) {
    return text.find(part) != text.npos;
  };
  EXPECT_TRUE(contains(message(R"({"a":"m-3.safetensors"})"), "the shard \"m-3.safetensors\" is missing"));
  EXPECT_TRUE(contains(message(R"({"a":"m-1.safetensors","c":"m-2.safetensors"})"),
                       "1 tensors of the index are not"));
  EXPECT_TRUE(contains(message(R"({"b":"m-1.safetensors","a":"m-2.safetensors"})"),
                       "2 tensors of the index are not"));
  EXPECT_TRUE(contains(message(R"([])"), "/weight_map: expected an object"));
  EXPECT_TRUE(contains(message(R"({"a":7})"), "/weight_map/a: expected a string"));
  for (const char* name :
       {"../m-1.safetensors", "/etc/passwd", "x/../m-1.safetensors", "", ".hidden", "a\\\\b"}) {
    EXPECT_TRUE(contains(message(fmt::format(R"({{"a":"{}"}})", name)), "a file in the same folder")) << name;
  }
  fs::copy_file(folder_ / "m-1.safetensors", folder_ / "m-3.safetensors");
  EXPECT_TRUE(contains(message(R"({"a":"m-1.safetensors","x":"m-3.safetensors"})"), "stands in two shards"));
  const fs::path outside = folder_.path.string() + "_outside";
  fs::create_directories(outside);
  fs::copy_file(folder_ / "m-1.safetensors", outside / "f");
  fs::create_symlink(outside / "f", folder_.path / "m-4.safetensors");
  EXPECT_TRUE(contains(message(R"({"a":"m-4.safetensors"})"), "a link that leaves its folder"));
  fs::remove_all(outside);
}

TEST(TensorStore, NamesWhatADirectoryLacks) {
  const Folder folder;
  EXPECT_NE(error_of([&] { TensorStore store(folder.path.string()); }).find("holds neither"),
            std::string::npos);
  EXPECT_NE(error_of([&] { TensorStore store(folder / "absent.safetensors"); }).find("cannot open"),
            std::string::npos);
}

TEST(TensorStore, FollowsLinksIntoTheBlobsOfAHubCache) {
  const Folder folder;
  const fs::path snapshot = folder.path / "snapshots" / "abc", blobs = folder.path / "blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  write_file((blobs / "hash").string(),
             file_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
  fs::create_symlink("../../blobs/hash", snapshot / "m.safetensors");
  write_file((snapshot / "model.safetensors.index.json").string(), R"({"weight_map":{"a":"m.safetensors"}})");
  EXPECT_EQ(TensorStore(snapshot.string()).tensors().size(), 1u);
}

}  // namespace
}  // namespace flashrt
