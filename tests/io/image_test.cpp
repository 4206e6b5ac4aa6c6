// Image files and resizing against recorded answers of Pillow and of torch's formula.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/image_decode.h"
#include "io/image_resize.h"

namespace flashrt {
namespace {

const std::string kData = FLASHRT_TEST_DATA "/image/";

uint32_t crc32(const std::vector<uint8_t>& bytes) {
  uint32_t crc = ~0u;
  for (const uint8_t b : bytes) {
    crc ^= b;
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

// The same pictures as tests/reference/image.py draws.
std::vector<uint8_t> picture(uint32_t seed, int width, int height) {
  std::vector<uint8_t> out;
  uint32_t state = seed * 2654435761u + 12345u;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        state = state * 1664525u + 1013904223u;
        out.push_back((x / 16 + y / 16) % 3 == 0 ? uint8_t(state >> 24) : uint8_t(x * 5 + y * 3 + c * 40));
      }
    }
  }
  return out;
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), 2);
    return e.what();
  }
  return "no error";
}

struct ResizeCase {
  uint32_t seed;
  int src_width, src_height, width, height;
  std::string rule, told;
};

std::vector<ResizeCase> resize_cases() {
  std::ifstream file(kData + "resize.txt");
  std::vector<ResizeCase> cases;
  for (ResizeCase c; file >> c.seed >> c.src_width >> c.src_height >> c.width >> c.height >> c.rule;) {
    std::getline(file, c.told);
    cases.push_back(c);
  }
  return cases;
}

ResizeRule rule_of(const std::string& name) {
  return name == "pillow_antialias" ? ResizeRule::pillow_antialias
         : name == "bicubic"        ? ResizeRule::bicubic
                                    : ResizeRule::torch_bilinear;
}

TEST(ImageResize, EqualsTheReferences) {
  const auto cases = resize_cases();
  ASSERT_GE(cases.size(), 40u);
  for (const ResizeCase& c : cases) {
    SCOPED_TRACE(fmt::format("{}x{} to {}x{} {}", c.src_width, c.src_height, c.width, c.height, c.rule));
    const auto src = picture(c.seed, c.src_width, c.src_height);
    ResizePlan plan(c.src_width, c.src_height, c.width, c.height, rule_of(c.rule));
    std::vector<uint8_t> bytes(size_t(c.width) * size_t(c.height) * 3, 77);
    std::vector<float> floats(bytes.size(), 77);
    plan.run(src.data(), bytes.data());
    plan.run(src.data(), floats.data());
    const size_t plane = bytes.size() / 3;
    if (c.rule != "torch_bilinear") {
      EXPECT_EQ(fmt::format(" {:08x}", crc32(bytes)), c.told);
      for (size_t i = 0; i < bytes.size(); ++i) {
        ASSERT_EQ(floats[i % 3 * plane + i / 3], float(bytes[i]) / 255.0f * 2.0f - 1.0f) << i;
      }
      continue;
    }
    std::istringstream samples(c.told);
    for (std::string sample; samples >> sample;) {
      int y = 0, x = 0, channel = 0;
      double value = 0;
      ASSERT_EQ(std::sscanf(sample.c_str(), "%d:%d:%d:%lf", &y, &x, &channel, &value), 4);
      const size_t at = size_t(y) * size_t(c.width) + size_t(x);
      EXPECT_NEAR(floats[size_t(channel) * plane + at], value * 2 - 1, 1e-6) << sample;
      EXPECT_NEAR(bytes[at * 3 + size_t(channel)], value * 255, 0.501) << sample;
    }
  }
}

TEST(ImageResize, ThePictureIsCentredOnBlack) {
  const std::vector<uint8_t> white(640 * 480 * 3, 255);
  for (const ResizeRule rule :
       {ResizeRule::pillow_antialias, ResizeRule::torch_bilinear, ResizeRule::bicubic}) {
    ResizePlan plan(640, 480, 224, 224, rule);
    std::vector<uint8_t> out(224 * 224 * 3, 9);
    for (int repeat = 0; repeat < 2; ++repeat) {
      plan.run(white.data(), out.data());
      for (int y = 0; y < 224; ++y) {
        for (int x = 0; x < 224 * 3; ++x) {
          ASSERT_EQ(out[size_t(y) * 672 + size_t(x)], y < 28 || y >= 196 ? 0 : 255) << y << ' ' << x;
        }
      }
    }
  }
}

TEST(ImageResize, RefusesImpossibleSizes) {
  const auto error = [](int w, int h) {
    return error_of([&] { ResizePlan(w, h, 224, 224, ResizeRule::pillow_antialias); });
  };
  EXPECT_NE(error(0, 5).find("expected sides from 1 to 8192"), std::string::npos);
  EXPECT_NE(error(5, 8193).find("expected sides"), std::string::npos);
  EXPECT_NE(error(-1, 5).find("expected sides"), std::string::npos);
  EXPECT_NE(error(1, 1000).find("a side would be empty"), std::string::npos);
}

TEST(ImageResize, HalfTurn) {
  std::vector<uint8_t> odd{1, 2, 3, 4, 5, 6, 7, 8, 9}, even{1, 2, 3, 4, 5, 6};
  rotate_half_turn(odd.data(), 3, 1);
  rotate_half_turn(even.data(), 1, 2);
  EXPECT_EQ(odd, (std::vector<uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(even, (std::vector<uint8_t>{4, 5, 6, 1, 2, 3}));
}

TEST(ImageDecode, EqualsPillow) {
  std::ifstream file(kData + "decode.txt");
  int count = 0;
  std::string name, crc;
  for (int width, height; file >> name >> width >> height >> crc; ++count) {
    const Image image = read_image(kData + name);
    EXPECT_EQ(image.width, width) << name;
    EXPECT_EQ(image.height, height) << name;
    EXPECT_EQ(fmt::format("{:08x}", crc32(image.pixels)), crc) << name;
  }
  EXPECT_GE(count, 9);
}

TEST(ImageDecode, EveryCutIsRefused) {
  for (const auto& entry : std::filesystem::directory_iterator(kData)) {
    if (entry.path().extension() == ".txt") continue;
    const std::string whole = read_text_file(entry.path().string());
    for (size_t size = 0; size + 12 < whole.size(); size += 5) {  // the last 12 bytes of a PNG hold no pixels
      const std::string message =
          error_of([&] { decode_image(std::as_bytes(std::span(whole.data(), size)), "cut.png"); });
      EXPECT_TRUE(message.starts_with("cut.png: ")) << entry.path() << ' ' << size << ": " << message;
    }
  }
}

TEST(ImageDecode, RefusesWhatIsNoImage) {
  const auto error = [](std::string_view bytes) {
    return error_of([&] { decode_image(std::as_bytes(std::span(bytes.data(), bytes.size())), "x"); });
  };
  EXPECT_EQ(error(""), "x: expected a PNG or JPEG image, found an empty file");
  EXPECT_EQ(error("GIF89a"), "x: expected a PNG or JPEG image, found something else");
  EXPECT_NE(error_of([] { read_image(kData + "none.png"); }).find("none.png: cannot open"),
            std::string::npos);
}

TEST(ImageDecode, RefusesHugeHeadersBeforeAllocating) {
  std::string png = read_text_file(kData + "rgb.png");
  // 8192 × 8192 in the IHDR, with its checksum made right again.
  png.replace(16, 8, std::string("\x00\x00\x20\x00\x00\x00\x20\x00", 8));
  const uint32_t crc = crc32(std::vector<uint8_t>(png.begin() + 12, png.begin() + 29));
  for (int i = 0; i < 4; ++i) png[size_t(29 + i)] = char(crc >> (24 - 8 * i));
  const std::string message = error_of([&] { decode_image(std::as_bytes(std::span(png)), "huge.png"); });
  EXPECT_NE(message.find("huge.png: expected an image of at most"), std::string::npos) << message;
}

}  // namespace
}  // namespace flashrt
