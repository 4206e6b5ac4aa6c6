// The HTML page: compression is exact, the file stands alone, and a real headless browser paints the right
// pixels.
#include "tabletop/page.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "tabletop/compress.h"
#include "tabletop/random.h"

namespace flashrt::tabletop {
namespace {

namespace fs = std::filesystem;

TEST(Compress, RoundTrips) {
  Random random(1);
  for (size_t size : {0, 1, 4, 5, 100, 5000}) {
    for (int values : {1, 2, 256}) {
      std::vector<uint8_t> data(size);
      for (uint8_t& b : data) b = uint8_t(random.below(values));
      const size_t hints[] = {7, 49};
      EXPECT_EQ(lz_unpack(lz_pack(data, hints), size), data);
    }
  }
  const uint8_t bad[] = {0, 200, 1, 9};
  EXPECT_THROW(lz_unpack(bad, 300), std::runtime_error);
  EXPECT_THROW(lz_unpack({}, 3), std::runtime_error);
  EXPECT_EQ(base64(std::vector<uint8_t>{'M', 'a', 'n', 'M', 'a'}), "TWFuTWE=");
}

TEST(Compress, PaletteKeepsFewColoursExactly) {
  const std::vector<uint8_t> rgb = {0, 0, 0, 255, 0, 0, 0, 255, 9, 255, 0, 0};
  Palette palette;
  palette.count(rgb);
  palette.build();
  const auto indices = palette.indices(rgb);
  for (size_t i = 0; i < 4; ++i) {
    const uint32_t c = palette.colours()[indices[i]];
    EXPECT_EQ(c, uint32_t(rgb[3 * i]) << 16 | uint32_t(rgb[3 * i + 1]) << 8 | rgb[3 * i + 2]);
  }
}

Page expert_page(int episodes) {
  Page page("the scripted expert");
  const Policy expert = expert_policy();
  for (int seed = 0; seed < episodes; ++seed) {
    page.finished(run_episode(uint64_t(seed), expert, {}, [&](const Frame& f) { page.frame(f); }));
  }
  return page;
}

TEST(Page, StandsAloneAndIsSmall) {
  const std::string html = expert_page(10).html();
  EXPECT_LT(html.size(), 5u << 20);
  for (const char* outside : {"src=", "@import", "url(", "fetch(", "<link rel=\"stylesheet\""}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
  for (size_t at = html.find("http"); at != std::string::npos; at = html.find("http", at + 1)) {
    EXPECT_EQ(html.compare(at, 18, "http://www.w3.org/"), 0);  // a namespace's name, not an address
  }
  EXPECT_EQ(html.find("@EPISODES@"), std::string::npos);
}

TEST(Page, ReportsAnUnwritablePath) {
  EXPECT_THROW(check_writable("/no/such/folder/page.html"), std::runtime_error);
  EXPECT_THROW(check_writable(fs::temp_directory_path()), std::runtime_error);
  const fs::path path = fs::temp_directory_path() / ("tabletop-page-" + std::to_string(::getpid()));
  check_writable(path);
  EXPECT_FALSE(fs::exists(path));  // the check leaves nothing behind
}

// One episode of flat pictures, few enough colours to survive exactly; the prompt tries to break out of the
// script.
struct Flat {
  static constexpr int kSize = 16, kFrames = 3;
  std::vector<uint8_t> first[kCameras];
  std::string html;

  Flat() {
    Page page("flat pictures");
    for (int f = 0; f < kFrames; ++f) {
      std::vector<uint8_t> images[kCameras];
      for (int c = 0; c < kCameras; ++c) {
        for (int i = 0; i < kSize * kSize; ++i) {
          const uint8_t v = uint8_t(i / 20 % 7 * 32);
          images[c].insert(images[c].end(), {v, uint8_t(c * 120), uint8_t(f * 64)});
        }
        if (f == 0) first[c] = images[c];
      }
      Observation o;
      o.top = images[0];
      o.wrist = images[1];
      o.image_size = kSize;
      page.frame({o, 1.5, f == 0, f + 1 == kFrames, true});
    }
    page.finished({7, Family::stack, "</script><b>\"quoted\\", true, kFrames - 1, {1.5}});
    html = page.html();
  }
};

std::string browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome", "chrome"}) {
    for (const char* folder : {"/usr/bin/", "/usr/local/bin/", "/snap/bin/"}) {
      if (::access((std::string(folder) + name).c_str(), X_OK) == 0) return std::string(folder) + name;
    }
  }
  return "";
}

// The page's document after its script ran.
std::string run_in_browser(const std::string& program, const std::string& html) {
  const fs::path folder = fs::temp_directory_path() / ("tabletop-browser-" + std::to_string(::getpid()));
  fs::create_directories(folder);
  write_file(folder / "page.html", html);
  const std::string command = "timeout 100 " + program +
                              " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
                              "--user-data-dir=" +
                              (folder / "profile").string() +
                              " --virtual-time-budget=3000 --dump-dom file://" +
                              (folder / "page.html").string() + " > " + (folder / "dom.html").string() +
                              " 2> " + (folder / "log").string();
  const int status = std::system(command.c_str());
  EXPECT_EQ(status, 0) << command;
  std::ifstream dom(folder / "dom.html");
  const std::string text{std::istreambuf_iterator<char>(dom), {}};
  fs::remove_all(folder);
  return text;
}

TEST(Page, ARealBrowserPaintsThePixels) {
  const std::string program = browser();
  if (program.empty()) GTEST_SKIP() << "no chromium or chrome is installed";
  const Flat flat;
  const std::string dom = run_in_browser(program, flat.html);
  EXPECT_NE(dom.find("data-ready=\"1\""), std::string::npos) << dom.substr(0, 2000);
  for (const auto& pixels : flat.first) {
    EXPECT_NE(dom.find("data-painted=\"" + std::to_string(fnv1a(pixels)) + "\""), std::string::npos);
  }
  EXPECT_NE(dom.find("“&lt;/script&gt;&lt;b&gt;\"quoted\\”"), std::string::npos);  // shown, not executed
  EXPECT_EQ(dom.find("<b>\"quoted"), std::string::npos);
}

TEST(Page, ARealBrowserShowsTenEpisodes) {
  const std::string program = browser();
  if (program.empty()) GTEST_SKIP() << "no chromium or chrome is installed";
  const std::string dom = run_in_browser(program, expert_page(10).html());
  EXPECT_NE(dom.find("data-ready=\"10\""), std::string::npos);
  size_t canvases = 0, circles = 0;
  for (size_t at = dom.find("data-painted="); at != std::string::npos; at = dom.find("data-painted=", at + 1))
    ++canvases;
  for (size_t at = dom.find("<circle"); at != std::string::npos; at = dom.find("<circle", at + 1)) ++circles;
  EXPECT_EQ(canvases, 10u * kCameras);
  EXPECT_GT(circles, 20u);
  EXPECT_NE(dom.find("episodes succeeded"), std::string::npos);
}

}  // namespace
}  // namespace flashrt::tabletop
