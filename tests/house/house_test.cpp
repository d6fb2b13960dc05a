// The house rules that a compiler does not see: who includes whom, that transports and algorithms are named nowhere but
// in their own folders (docs/architecture.md), and how wide code is.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = LONGSPAN_SOURCE;

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

std::string read(const fs::path& path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::vector<fs::path> files_under(const fs::path& folder, const std::set<std::string>& extensions) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && extensions.contains(entry.path().extension())) found.push_back(entry.path());
  }
  return found;
}

std::vector<fs::path> sources_under(const fs::path& folder) {
  return files_under(folder, {".hpp", ".cpp", ".h", ".cu"});
}

/// "src/executor" for src/executor/reduce/x.cpp, "transports/tcp", "perf/lab", "include", ...
std::string part_of(const fs::path& file) {
  const fs::path relative = fs::relative(file, kRoot);
  auto at = relative.begin();
  std::string part = *at;
  if (part == "include" || ++at == relative.end()) return part;
  if (part == "bindings") return part;
  return part + "/" + at->string();
}

/// First folder of a quoted include: "longspan/spi", "longspan", "base", ...
std::vector<std::string> includes_of(const fs::path& file) {
  static const std::regex pattern("^\\s*#\\s*include\\s*\"([^\"]+)\"");
  std::vector<std::string> found;
  std::istringstream lines(read(file));
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, pattern)) continue;
    const std::string path = match[1];
    if (path.starts_with("longspan/spi/")) found.emplace_back("spi");
    else if (path.starts_with("longspan/")) found.emplace_back("longspan");
    else found.push_back(path.substr(0, path.find('/')));
  }
  return found;
}

const std::map<std::string, std::set<std::string>> kAllowed{
    {"src/model", {"spi"}},
    {"src/base", {}},
    {"src/device", {"base", "inventory"}},
    {"src/topology", {"base"}},
    {"src/schedule", {"spi"}},
    {"src/planner", {"spi", "base"}},
    {"src/executor", {"spi", "base", "device", "reduce", "hwy"}},
    {"src/security", {"base"}},
    {"src/bootstrap", {"base", "security"}},
    {"src/runtime", {"spi", "base", "security", "device", "executor", "planner", "bootstrap", "topology"}},
    {"src/cli", {"spi", "base", "inventory", "topology", "planner", "schedule", "runtime"}},
    {"perf/lab", {"base", "topology"}},
    {"perf/harness", {}},
    {"perf/collectives", {"harness"}},
    {"perf/train", {"harness"}},
    {"perf/wan", {"harness"}},
    {"perf/compare", {}},
    {"bindings", {}},
    {"include", {"spi"}},
};

std::set<std::string> allowed_for(const std::string& part) {
  if (part.starts_with("transports/")) return {"spi", "base", "device", "security"};
  if (part.starts_with("algorithms/")) return {"spi"};
  const auto found = kAllowed.find(part);
  REQUIRE(found != kAllowed.end());
  return found->second;
}

bool is_test(const fs::path& file) { return fs::relative(file, kRoot).string().find("/tests/") != std::string::npos; }

}  // namespace

TEST_CASE("Every part includes only what it may") {
  for (const char* top : {"include", "src", "transports", "algorithms", "bindings", "perf"}) {
    for (const fs::path& file : sources_under(kRoot / top)) {
      if (is_test(file) || part_of(file) == "perf/benchmarks") continue;
      const std::string part = part_of(file);
      const std::string own = part.substr(part.find('/') + 1);
      const std::set<std::string> allowed = allowed_for(part);
      for (const std::string& include : includes_of(file)) {
        INFO(fs::relative(file, kRoot).string() << " includes from " << include);
        CHECK((include == "longspan" || include == own || allowed.contains(include)));
      }
    }
  }
}

TEST_CASE("No include climbs out of its folder") {
  for (const char* top : {"include", "src", "transports", "algorithms", "bindings", "perf", "tests"}) {
    for (const fs::path& file : sources_under(kRoot / top)) {
      INFO(fs::relative(file, kRoot).string());
      CHECK(read(file).find("#include \"../") == std::string::npos);
    }
  }
}

TEST_CASE("Transports and algorithms are named only in their own folders") {
  std::vector<std::string> names = split(LONGSPAN_TRANSPORTS);
  const std::vector<std::string> algorithms = split(LONGSPAN_ALGORITHMS);
  names.insert(names.end(), algorithms.begin(), algorithms.end());
  REQUIRE(names.size() > 4);
  for (const char* top : {"include", "src", "bindings"}) {
    for (const fs::path& file : sources_under(kRoot / top)) {
      // Comments may give examples; code may not know a name.
      const std::string code = std::regex_replace(read(file), std::regex("//[^\n]*|/\\*[^*]*\\*/"), "");
      for (const std::string& name : names) {
        INFO(fs::relative(file, kRoot).string() << " names " << name);
        CHECK(code.find("\"" + name + "\"") == std::string::npos);
        CHECK_FALSE(std::regex_search(code, std::regex("(transport|algorithm)_" + name + "\\b")));
      }
    }
  }
}

TEST_CASE("No line of code has more than 120 columns") {
  const auto columns = [](const std::string& line) {  // of UTF-8
    return std::count_if(line.begin(), line.end(), [](char byte) { return (byte & 0xc0) != 0x80; });
  };
  for (const char* top : {"include", "src", "transports", "algorithms", "bindings", "perf", "tests"}) {
    for (const fs::path& file : files_under(kRoot / top, {".hpp", ".cpp", ".h", ".cu", ".py"})) {
      std::istringstream lines(read(file));
      int number = 0;
      for (std::string line; std::getline(lines, line);) {
        if (++number; columns(line) <= 120) continue;
        FAIL_CHECK(fs::relative(file, kRoot).string() << ":" << number << " has " << columns(line) << " columns");
      }
    }
  }
}

TEST_CASE("Only src/base reads the environment") {
  for (const char* top : {"src", "transports", "algorithms", "bindings"}) {
    for (const fs::path& file : sources_under(kRoot / top)) {
      if (fs::relative(file, kRoot).string().starts_with("src/base/env")) continue;
      INFO(fs::relative(file, kRoot).string());
      CHECK_FALSE(std::regex_search(read(file), std::regex("\\bgetenv\\s*\\(")));
    }
  }
}
