// What public stacks need for the same work, to print beside ours.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace flashrt::apps {

inline constexpr const char* kPeers = "tune/bench/peers.json";

// Name → ms. A row of the file counts when all its fields but `ms` are those of `report`. Throws Error(input)
// when the file cannot be read; the default file may be absent.
nlohmann::json peers_of(const nlohmann::json& report, const std::string& path);
// One line each, against our `ms`.
void print_peers(const nlohmann::json& peers, double ms);

}  // namespace flashrt::apps
