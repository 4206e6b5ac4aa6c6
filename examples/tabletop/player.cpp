// The picture is redrawn in place by moving the cursor up, so the scrollback keeps one line per finished
// episode.
#include "tabletop/player.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

namespace flashrt::tabletop {
namespace {

constexpr int kMaxViewColumns = 56;  // half of the default image size: two pixels a column
constexpr int kMinColumns = 24, kMinRows = 16;
constexpr int kTextRows = 3;

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Interrupted while the cursor is hidden: show it again, then die of the signal as usual.
void restore_cursor(int signal) {
  const char text[] = "\x1b[0m\x1b[?25h\n";
  const auto ignored = write(STDOUT_FILENO, text, sizeof text - 1);
  (void)ignored;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// Mean colour of the pixels that a cell covers.
Rgb average(std::span<const uint8_t> rgb, int size, int x0, int x1, int y0, int y1) {
  int r = 0, g = 0, b = 0, n = 0;
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x, ++n) {
      const uint8_t* p = rgb.data() + (size_t(y) * size_t(size) + size_t(x)) * 3;
      r += p[0], g += p[1], b += p[2];
    }
  }
  return n ? Rgb{uint8_t(r / n), uint8_t(g / n), uint8_t(b / n)} : Rgb{0, 0, 0};
}

int cube6(int v) { return v < 48 ? 0 : v < 115 ? 1 : (v - 35) / 40; }  // level of the 6×6×6 colour cube

// Select graphic rendition for foreground (38) or background (48).
std::string sgr(int ground, Rgb c, TerminalColour colour) {
  char text[40];
  if (colour == TerminalColour::truecolor) {
    std::snprintf(text, sizeof text, "\x1b[%d;2;%d;%d;%dm", ground, c.r, c.g, c.b);
  } else {
    std::snprintf(text, sizeof text, "\x1b[%d;5;%dm", ground,
                  16 + 36 * cube6(c.r) + 6 * cube6(c.g) + cube6(c.b));
  }
  return text;
}

// At most `columns` characters; prompts and labels are ASCII.
std::string fit(const std::string& text, int columns) {
  if (int(text.size()) <= columns) return text;
  return columns <= 3 ? text.substr(0, size_t(std::max(columns, 0)))
                      : text.substr(0, size_t(columns) - 3) + "...";
}

}  // namespace

Terminal detect_terminal(std::FILE* file) {
  Terminal t;
  const int fd = fileno(file);
  t.interactive = isatty(fd) == 1;
  winsize size{};
  if (t.interactive && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    t.columns = size.ws_col;
    t.rows = size.ws_row > 0 ? size.ws_row : 24;
  }
  const auto env = [](const char* key) {
    const char* value = std::getenv(key);
    return std::string(value ? value : "");
  };
  const std::string term = env("TERM"), depth = env("COLORTERM");
  if (!t.interactive || !env("NO_COLOR").empty() || term.empty() || term == "dumb") return t;
  if (depth == "truecolor" || depth == "24bit" || term.find("direct") != std::string::npos) {
    t.colour = TerminalColour::truecolor;
  } else if (term.find("256") != std::string::npos) {
    t.colour = TerminalColour::palette256;
  }
  return t;
}

std::vector<std::string> half_blocks(std::span<const uint8_t> rgb, int size, int columns,
                                     TerminalColour colour) {
  const int rows = (columns + 1) / 2;
  const auto edge = [&](int i, int n) { return std::min(size, i * size / n); };
  std::vector<std::string> lines;
  for (int r = 0; r < rows; ++r) {
    std::string line, last;
    for (int c = 0; c < columns; ++c) {
      const int x0 = edge(c, columns), x1 = std::max(edge(c + 1, columns), x0 + 1);
      const int y0 = edge(2 * r, 2 * rows), y1 = edge(2 * r + 1, 2 * rows), y2 = edge(2 * r + 2, 2 * rows);
      const std::string cell = sgr(38, average(rgb, size, x0, x1, y0, std::max(y1, y0 + 1)), colour) +
                               sgr(48, average(rgb, size, x0, x1, y1, std::max(y2, y1 + 1)), colour);
      if (cell != last) line += cell;
      last = cell;
      line += "\u2580";  // the upper half block: foreground above, background below
    }
    lines.push_back(line + "\x1b[0m");
  }
  return lines;
}

Player::Player(std::FILE* out, const Terminal& terminal, int total, double step_ms)
    : out_(out), terminal_(terminal), total_(total), step_ms_(step_ms) {
  const bool room = terminal.columns >= kMinColumns && terminal.rows >= kMinRows;
  if (!terminal.interactive || terminal.colour == TerminalColour::none || !room) return;
  const int by_rows = 2 * (terminal.rows - kTextRows - 1);
  const int side_by_side = std::min({(terminal.columns - 3) / 2, by_rows, kMaxViewColumns});
  const int alone = std::min({terminal.columns - 1, by_rows, kMaxViewColumns});
  both_views_ = side_by_side >= 30;
  view_columns_ = both_views_ ? side_by_side : alone;
  std::fputs("\x1b[?25l", out_);  // hide the cursor
  std::signal(SIGINT, restore_cursor);
  std::signal(SIGTERM, restore_cursor);
}

Player::~Player() {
  if (!pictures()) return;
  std::fputs("\x1b[0m\x1b[?25h", out_);
  std::fflush(out_);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

void Player::write_line(std::string text) {
  std::fputs((fit(text, terminal_.columns - 1) + "\x1b[K\n").c_str(), out_);
}

void Player::draw(const Frame& f) {
  const Observation& o = f.observation;
  if (drawn_rows_ > 0) std::fprintf(out_, "\x1b[%dA\r", drawn_rows_);
  const auto left = half_blocks(o.top, o.image_size, view_columns_, terminal_.colour);
  const auto right = both_views_ ? half_blocks(o.wrist, o.image_size, view_columns_, terminal_.colour)
                                 : std::vector<std::string>();
  for (size_t i = 0; i < left.size(); ++i) {
    std::fputs((left[i] + (both_views_ ? " " + right[i] : "") + "\x1b[K\n").c_str(), out_);
  }
  char line[160];
  write_line(std::string(o.prompt));
  const char* state = !f.finished ? (f.replanned ? "think" : "act") : f.success ? "done" : "out of time";
  std::snprintf(line, sizeof line, "step %2d/%d  %-5s  policy %.1f ms", o.step, kTimeLimit, state,
                f.policy_ms);
  write_line(line);
  std::snprintf(line, sizeof line, "success %d of %d  (%d to go)", successes_, done_, total_ - done_);
  write_line(line);
  std::fflush(out_);
  drawn_rows_ = int(left.size()) + kTextRows;
}

void Player::frame(const Frame& f) {
  if (!pictures()) return;
  const double now = now_ms();
  if (step_ms_ > 0 && now < next_ms_) {
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(next_ms_ - now));
  }
  next_ms_ = std::max(now, next_ms_) + step_ms_;
  draw(f);
}

void Player::finished(const EpisodeResult& r) {
  ++done_;
  successes_ += r.success;
  char head[64], tail[96];
  std::snprintf(head, sizeof head, "%3d/%d  %-7s ", done_, total_, r.success ? "success" : "failed");
  std::snprintf(tail, sizeof tail, "  (%d steps, %zu policy calls, %.1f ms p50)", r.steps, r.policy_ms.size(),
                percentile(r.policy_ms, 0.5));
  const std::string text = head + r.prompt;
  if (pictures()) {
    std::fprintf(out_, "\x1b[%dA\r\x1b[J",
                 drawn_rows_);  // the line replaces the picture; the next one follows
    drawn_rows_ = 0;
    write_line(text +
               (int(text.size() + std::char_traits<char>::length(tail)) < terminal_.columns ? tail : ""));
  } else {
    std::fprintf(out_, "%s%s\n", text.c_str(), tail);
  }
  std::fflush(out_);
}

}  // namespace flashrt::tabletop
