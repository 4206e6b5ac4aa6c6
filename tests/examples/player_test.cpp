// The terminal view: pictures that fit, plain lines without colour, room or a terminal.
#include "tabletop/player.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace flashrt::tabletop {
namespace {

std::string play(const Terminal& terminal, bool expect_pictures) {
  char* text = nullptr;
  size_t bytes = 0;
  std::FILE* out = open_memstream(&text, &bytes);
  {
    Player player(out, terminal, 2, 0);
    EXPECT_EQ(player.pictures(), expect_pictures);
    const Policy expert = expert_policy();
    for (uint64_t seed : {0, 3})
      player.finished(run_episode(seed, expert, {}, [&](const Frame& f) { player.frame(f); }));
  }
  std::fclose(out);
  const std::string result(text, bytes);
  std::free(text);
  return result;
}

// Characters per line once escape sequences are gone; every UTF-8 character here is one column wide.
int widest_line(const std::string& text) {
  int widest = 0, column = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = text.find_first_of("ABCDHJKhlm", i + 2);
    } else if (text[i] == '\n' || text[i] == '\r') {
      column = 0;
    } else if ((text[i] & 0xc0) != 0x80) {
      widest = std::max(widest, ++column);
    }
  }
  return widest;
}

TEST(Player, PicturesFitTheTerminal) {
  for (int columns : {24, 40, 63, 64, 80, 200}) {
    for (auto colour : {TerminalColour::palette256, TerminalColour::truecolor}) {
      const std::string text = play({true, columns, 24, colour}, true);
      EXPECT_LT(widest_line(text), columns);
      EXPECT_NE(text.find("\u2580"), std::string::npos);
      EXPECT_NE(text.find("success 1 of 1"), std::string::npos);
      EXPECT_NE(text.find("\x1b[?25h"), std::string::npos);  // the cursor comes back
      EXPECT_EQ(text.find("38;2;") == std::string::npos, colour == TerminalColour::palette256);
    }
  }
}

TEST(Player, PlainLinesElsewhere) {
  for (const Terminal& t : {Terminal{}, Terminal{true, 80, 24, TerminalColour::none},
                            Terminal{true, 20, 24, TerminalColour::truecolor},
                            Terminal{true, 80, 8, TerminalColour::truecolor}}) {
    const std::string text = play(t, false);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_NE(text.find("1/2  success the red triangle belongs in the blue zone"), std::string::npos) << text;
    EXPECT_NE(text.find("ms p50"), std::string::npos);
  }
}

TEST(Player, AFileIsNoTerminal) {
  std::FILE* file = std::tmpfile();
  const Terminal t = detect_terminal(file);
  std::fclose(file);
  EXPECT_FALSE(t.interactive);
  EXPECT_EQ(t.colour, TerminalColour::none);
}

TEST(Player, HalfBlocksAverageWhatACellCovers) {
  std::vector<uint8_t> rgb(4 * 4 * 3);
  for (size_t y = 0; y < 4; ++y) {
    for (size_t x = 0; x < 4; ++x) rgb[(y * 4 + x) * 3] = y < 2 ? 200 : 100;  // red, brighter above
  }
  const auto lines = half_blocks(rgb, 4, 2, TerminalColour::truecolor);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0], "\x1b[38;2;200;0;0m\x1b[48;2;100;0;0m\u2580\u2580\x1b[0m");
}

}  // namespace
}  // namespace flashrt::tabletop
