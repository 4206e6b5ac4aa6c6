// Episodes in a terminal: half-block pictures where there is colour and room, plain lines everywhere else.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "tabletop/episode.h"

namespace flashrt::tabletop {

enum class TerminalColour : uint8_t { none, palette256, truecolor };

struct Terminal {
  bool interactive = false;  // a terminal, not a file or a pipe
  int columns = 80, rows = 24;
  TerminalColour colour = TerminalColour::none;
};

// Asks the system about `file`; heeds NO_COLOR, TERM and COLORTERM.
Terminal detect_terminal(std::FILE* file);

// One camera image as half blocks: `columns` × ⌈columns / 2⌉ cells, one string per line, colours reset at
// each end.
std::vector<std::string> half_blocks(std::span<const uint8_t> rgb, int size, int columns,
                                     TerminalColour colour);

class Player {
 public:
  // Draws pictures when the terminal can show them (colour, ≥ 24 columns and ≥ 16 rows), else prints lines.
  // `step_ms` is the least time between pictures: 100 plays at the speed of the world.
  Player(std::FILE* out, const Terminal& terminal, int total, double step_ms = 100);
  ~Player();
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  bool pictures() const { return view_columns_ > 0; }
  void frame(const Frame& frame);
  void finished(const EpisodeResult& result);

 private:
  void draw(const Frame& frame);
  void write_line(std::string text);

  std::FILE* out_;
  Terminal terminal_;
  int total_, done_ = 0, successes_ = 0;
  double step_ms_;
  int view_columns_ = 0;  // of one camera; 0: no pictures
  bool both_views_ = false;
  int drawn_rows_ = 0;  // of the picture on screen, to draw over
  double next_ms_ = 0;
};

}  // namespace flashrt::tabletop
