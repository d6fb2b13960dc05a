#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "security/introduction.hpp"
#include "security/secret.hpp"
#include "support/catch.hpp"

namespace longspan::security {
namespace {

struct TemporaryFile {
  explicit TemporaryFile(const std::string& text) {
    Fd(::mkstemp(path.data()));
    std::ofstream(path) << text;
  }
  ~TemporaryFile() { ::unlink(path.c_str()); }
  static void Fd(int fd) { ::close(fd); }
  std::string path = "/tmp/longspan-key-XXXXXX";
};

}  // namespace

TEST_CASE("A key comes as it is, or from a file without the end of its line") {
  CHECK(load_secret("0123456789abcdef", {}).value() == "0123456789abcdef");
  const TemporaryFile file("a key in a file, long enough\n");
  CHECK(load_secret({}, file.path).value() == "a key in a file, long enough");
  CHECK(load_secret({}, {}).value().empty());
}

TEST_CASE("A key that cannot be had is an error that says why") {
  const auto both = load_secret("a", "b");
  CHECK(std::string(both.status().message()).find("LONGSPAN_KEY and LONGSPAN_KEY_FILE") != std::string::npos);
  const auto missing = load_secret({}, "/nonexistent/key");
  CHECK(std::string(missing.status().message()).find("/nonexistent/key") != std::string::npos);
  const TemporaryFile empty("\n");
  CHECK(std::string(load_secret({}, empty.path).status().message()).find("holds no key") != std::string::npos);
  CHECK_FALSE(load_secret(std::string(5000, 'k'), {}).ok());
}

TEST_CASE("An introduction arrives as it was made, and nothing else is taken for one") {
  const Introduction made{"data", "1a2b", "3c4d", "eu-1", false};
  CHECK(parse_introduction(encode(made)) == made);
  CHECK(parse_introduction(encode(Introduction{})) == Introduction{});
  const auto odd = parse_introduction(encode({"control", "3", "run id with\nspaces", std::string(300, 'h'), true}));
  REQUIRE(odd.has_value());
  CHECK(odd->to == "run_id_with_spaces");
  CHECK(odd->host.size() == 80);
  for (const char* bad : {"", " ", "longspan/1", "longspan/2 open a b c d", "longspan/1 open a b c",
                          "longspan/1 open a b c d e", "longspan/1 shut a b c d", "longspan/1 open a  c d",
                          "longspan/1 open a b c d ", "longspan/1 open a\x01 b c d"}) {
    INFO(bad);
    CHECK_FALSE(parse_introduction(bad).has_value());
  }
  CHECK_FALSE(parse_introduction(std::string(10000, 'a')).has_value());
}

}  // namespace longspan::security
