// .npy: numpy's own bytes, round trips, and one bad file per rule.
#include "io/npy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace flashrt {
namespace {

// numpy.save of [[1, 2, 3]] as float32: header of 118 bytes, then the data.
std::string numpy_bytes() {
  std::string bytes("\x93NUMPY\x01\x00\x76\x00", 10);
  bytes += "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }";
  bytes.append(128 - 1 - bytes.size(), ' ');
  bytes += '\n';
  const float values[] = {1, 2, 3};
  return bytes.append(reinterpret_cast<const char*>(values), sizeof values);
}

std::string with_header(const std::string& header, size_t data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += char(header.size() & 0xff);
  bytes += char(header.size() >> 8);
  return bytes + header + std::string(data, '\0');
}

std::string error_of(const std::string& bytes) {
  try {
    parse_npy(std::as_bytes(std::span(bytes)), "x.npy");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    return error.what();
  }
  return "no error";
}

TEST(Npy, ReadsAndWritesNumpysBytes) {
  const std::string bytes = numpy_bytes();
  const NpyArray array = parse_npy(std::as_bytes(std::span(bytes)), "x.npy");
  EXPECT_EQ(array.shape, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(array.values, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(npy_bytes(array.shape, array.values), bytes);
}

TEST(Npy, RoundTripsShapes) {
  const std::string path =
      (std::filesystem::path(testing::TempDir()) / fmt::format("flashrt_{}.npy", getpid())).string();
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{}, {0}, {4}, {2, 3}, {2, 0, 5}, {1, 2, 3, 4}}) {
    size_t count = 1;
    for (const int64_t dim : shape) count *= size_t(dim);
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = float(i) - 0.5f;
    write_npy(path, shape, values);
    EXPECT_EQ(std::filesystem::file_size(path) % 64, count * 4 % 64);
    const NpyArray array = read_npy(path);
    EXPECT_EQ(array.shape, shape);
    EXPECT_EQ(array.values, values);
  }
  std::filesystem::remove(path);
}

TEST(Npy, AcceptsTheKeysInAnyOrderAndWiderVersions) {
  EXPECT_EQ(error_of(with_header("{'shape':(2,),'fortran_order':False,'descr':'<f4'}", 8)), "no error");
  std::string wide = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4);
  wide[6] = 2;
  wide.insert(10, 2, '\0');
  EXPECT_EQ(error_of(wide), "no error");
}

TEST(Npy, RefusesEveryBrokenRule) {
  const auto shape = [](const char* text) {
    return fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}", text);
  };
  const std::tuple<std::string, size_t, const char*> cases[] = {
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", 8, "expected '<f4'"},
      {"{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4, "expected '<f4'"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 4, "expected '<f4'"},
      {"{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", 4, "fortran_order: expected False"},
      {"{'descr': '<f4', 'fortran_order': False, }", 4, "lacks"},
      {"{'descr': '<f4', 'descr': '<f4', }", 4, "unexpected header field 'descr'"},
      {"{'x': '<f4', }", 4, "unexpected header field 'x'"},
      {"{\"descr\": '<f4'}", 4, "malformed header"},
      {"", 4, "malformed header"},
      {"{'descr", 4, "a closing quote"},
      {shape("(1,)") + "x", 4, "the end of the header"},
      {shape("(1)"), 4, "a tuple of one"},
      {shape("(-1,)"), 4, "a dimension"},
      {shape("(1.0,)"), 4, "malformed header"},
      {shape("(1"), 4, "malformed header"},
      {shape("(9999999999999999,)"), 4, "at most 15 digits"},
      {shape("(999999999999999, 999999999999999)"), 4, "too many bytes"},
      {shape("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)"), 4, "more than 16 dimensions"},
      {shape("(2,)"), 4, "needs 8 bytes of data, found 4"},
      {shape("(1,)"), 8, "needs 4 bytes of data, found 8"},
  };
  for (const auto& [header, data, message] : cases) {
    const std::string error = error_of(with_header(header, data));
    EXPECT_NE(error.find(message), std::string::npos) << header << "\n  " << error;
  }
  std::string bytes = numpy_bytes();
  bytes[6] = 4;
  EXPECT_NE(error_of(bytes).find("version 4.0"), std::string::npos);
  EXPECT_NE(error_of("PK\3\4 not an array").find("not a .npy file"), std::string::npos);
}

TEST(Npy, EveryTruncationIsAnError) {
  const std::string good = numpy_bytes();
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_NE(error_of(good.substr(0, size)), "no error") << size;
}

}  // namespace
}  // namespace flashrt
