// Episodes as one HTML file that needs no network: both cameras as animations, prompts, outcomes, latency
// plots.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tabletop/episode.h"

namespace flashrt::tabletop {

class Page {
 public:
  // `subtitle` says what ran: policy, device, precision.
  explicit Page(std::string subtitle) : subtitle_(std::move(subtitle)) {}

  void frame(const Frame& frame);              // every frame of an episode …
  void finished(const EpisodeResult& result);  // … then its outcome
  std::string html() const;

 private:
  struct Clip {
    EpisodeResult result;
    int size = 0, frames = 0;
    std::vector<uint8_t> camera[kCameras];  // u8 [frames, size, size, 3]
    std::vector<int> replans;               // frames at which the policy was asked
  };
  std::string subtitle_;
  std::vector<Clip> clips_;
  Clip current_;
};

// Fails now, not after the last episode, when `path` cannot be written. Throws std::runtime_error.
void check_writable(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& content);

}  // namespace flashrt::tabletop
