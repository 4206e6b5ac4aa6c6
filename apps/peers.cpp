// The rows of a peers file.
#include "apps/peers.h"

#include <fmt/format.h>

#include <fstream>

#include "base/error.h"

namespace flashrt::apps {

using Json = nlohmann::json;

Json peers_of(const Json& report, const std::string& path) {
  std::ifstream file(path);
  Json found = Json::object();
  if (!file) {
    if (path != kPeers) fail("--peers {}: cannot read", path);
    return found;
  }
  try {
    const Json peers = Json::parse(file);
    for (const Json& row : peers.at("rows")) {
      bool same = true;
      for (const auto& [key, value] : row.items()) same &= key == "ms" || report.value(key, Json()) == value;
      if (same) found.update(row.at("ms"));
    }
    for (const auto& [name, ms] : found.items()) ms.get<double>();
  } catch (const Json::exception& error) {
    fail("--peers {}: {}", path, error.what());
  }
  return found;
}

void print_peers(const Json& peers, double ms) {
  for (const auto& [name, theirs] : peers.items()) {
    fmt::print("  the same by {}: {:.2f} ms (x {:.2f}), of another run\n", name, theirs.get<double>(),
               theirs.get<double>() / ms);
  }
}

}  // namespace flashrt::apps
