// Fills the template of page_template.h with the episodes' data.
#include "tabletop/page.h"

#include <fstream>
#include <stdexcept>

#include "tabletop/compress.h"
#include "tabletop/page_template.h"

namespace flashrt::tabletop {
namespace {

// JSON string that is also safe inside <script>: '<' is escaped.
std::string quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '<' || (unsigned char)c < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", unsigned(c));
      out += code;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

template <class T, class Format>
std::string list(const std::vector<T>& values, Format&& format) {
  std::string out = "[";
  for (const T& v : values) {
    if (out.size() > 1) out += ',';
    out += format(v);
  }
  out += ']';
  return out;
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", v);
  return text;
}

void fill(std::string& text, const std::string& mark, const std::string& value) {
  const size_t at = text.find(mark);
  if (at == std::string::npos) throw std::logic_error("page template lacks " + mark);
  text.replace(at, mark.size(), value);
}

}  // namespace

void Page::frame(const Frame& f) {
  const Observation& o = f.observation;
  if (f.replanned) current_.replans.push_back(current_.frames);
  current_.size = o.image_size;
  ++current_.frames;
  const std::span<const uint8_t> views[kCameras] = {o.top, o.wrist};
  for (int c = 0; c < kCameras; ++c) {
    current_.camera[c].insert(current_.camera[c].end(), views[c].begin(), views[c].end());
  }
}

void Page::finished(const EpisodeResult& result) {
  current_.result = result;
  clips_.push_back(std::move(current_));
  current_ = {};
}

std::string Page::html() const {
  Palette palette;
  std::vector<EpisodeResult> results;
  for (const Clip& clip : clips_) {
    for (const auto& pixels : clip.camera) palette.count(pixels);
    results.push_back(clip.result);
  }
  palette.build();
  std::string episodes = "[";
  for (const Clip& clip : clips_) {
    const EpisodeResult& r = clip.result;
    episodes += std::string(episodes.size() > 1 ? ",\n" : "") + "{\"seed\":" + std::to_string(r.seed) +
                ",\"family\":" + quote(name(r.family)) + ",\"prompt\":" + quote(r.prompt) +
                ",\"success\":" + (r.success ? "true" : "false") + ",\"steps\":" + std::to_string(r.steps) +
                ",\"size\":" + std::to_string(clip.size) + ",\"frames\":" + std::to_string(clip.frames) +
                ",\"policy_ms\":" + list(r.policy_ms, number) +
                ",\"replans\":" + list(clip.replans, [](int v) { return std::to_string(v); }) +
                ",\"cameras\":[";
    const size_t row = size_t(clip.size), hints[] = {row, row * row};
    for (int c = 0; c < kCameras; ++c) {
      const auto indices = palette.indices(clip.camera[c]);
      episodes += (c ? ",\"" : "\"") + base64(lz_pack(indices, hints)) + "\"";
    }
    episodes += "]}";
  }
  const auto colour = [](uint32_t c) { return std::to_string(c); };
  std::string text(kPageTemplate);
  fill(text, "@SUMMARY@", to_json(summarise(results)));
  fill(text, "@SUBTITLE@", quote(subtitle_));
  fill(text, "@PALETTE@", list(palette.colours(), colour));
  fill(text, "@EPISODES@", episodes + "]");
  return text;
}

void check_writable(const std::filesystem::path& path) {
  const bool existed = std::filesystem::exists(path);
  std::ofstream file(path, std::ios::app);
  if (!file) {
    throw std::runtime_error("cannot write " + path.string() +
                             ": no such folder, no permission, or it is a folder");
  }
  file.close();
  std::error_code ignored;
  if (!existed) std::filesystem::remove(path, ignored);
}

void write_file(const std::filesystem::path& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.flush();
  if (!file) throw std::runtime_error("cannot write " + path.string() + ": no permission or disk full");
}

}  // namespace flashrt::tabletop
