#include "runtime/open_transports.hpp"

#include <array>

#include "longspan/spi/registry.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::runtime;

namespace {

/// A transport that fails to open, in a way of the test's choice.
class Failing final : public spi::Transport {
 public:
  Failing(std::string name, Status why) : name_(std::move(name)), why_(std::move(why)) {}
  std::string_view name() const override { return name_; }
  spi::TransportCapabilities capabilities() const override { return {}; }
  Result<std::unique_ptr<spi::Endpoint>> open(const spi::EndpointOptions& /*options*/) override { return why_; }

 private:
  std::string name_;
  Status why_;
};

spi::Transport& real(std::string_view name) {
  for (spi::Transport* transport : spi::all_transports()) {
    if (transport->name() == name) return *transport;
  }
  std::abort();
}

spi::EndpointOptions some_options() {
  spi::EndpointOptions options;
  options.self = 1;
  options.job = 7;
  options.bind_address = "127.0.0.1";
  return options;
}

Failing g_no_device("rdma", Status(StatusCode::kUnsupported, "no RDMA device on this host"));
Failing g_defect("broken", Status(StatusCode::kSystem, "out of descriptors"));

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

TEST_CASE("A transport that this host cannot use is left out, with its reason") {
  const std::array<spi::Transport*, 2> all{&g_no_device, &real("tcp")};
  auto opened = open_transports(all, {}, some_options());
  REQUIRE(opened.ok());
  REQUIRE(opened->size() == 2);
  CHECK((*opened)[0].endpoint == nullptr);
  CHECK((*opened)[0].offer.unusable == "no RDMA device on this host");
  CHECK((*opened)[1].endpoint != nullptr);
  CHECK((*opened)[1].offer.unusable.empty());
  CHECK((*opened)[1].offer.traits.reach == Tier::kWan);
}

TEST_CASE("A transport that is named and cannot be used is an error with its reason") {
  const std::array<spi::Transport*, 2> all{&g_no_device, &real("tcp")};
  const auto opened = open_transports(all, {"tcp", "rdma"}, some_options());
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.status().message() ==
        "LONGSPAN_TRANSPORTS names 'rdma', which this host cannot use: no RDMA device on this host");
}

TEST_CASE("A name that the build does not have is an error that gives the nearest one") {
  const std::array<spi::Transport*, 2> all{&g_no_device, &real("tcp")};
  const auto opened = open_transports(all, {"rmda"}, some_options());
  REQUIRE_FALSE(opened.ok());
  CHECK(has(opened.status().message(), "did you mean 'rdma'?"));
  CHECK(has(opened.status().message(), "it has: rdma, tcp"));
}

TEST_CASE("Only what is named is opened, and what fails for another reason than this host ends the start") {
  const std::array<spi::Transport*, 3> all{&g_no_device, &g_defect, &real("tcp")};
  auto opened = open_transports(all, {"tcp"}, some_options());
  REQUIRE(opened.ok());
  CHECK((*opened)[1].offer.unusable == "not in LONGSPAN_TRANSPORTS");
  CHECK((*opened)[2].offer.named);
  CHECK_FALSE(open_transports(all, {}, some_options()).ok());
}

TEST_CASE("What cannot encrypt does not leave the host, or the region, when the job asks for encryption") {
  const std::array<spi::Transport*, 1> all{&real("sim")};  // neither local to a host, nor does it encrypt
  spi::EndpointOptions options = some_options();
  options.key = "a key of this test";
  options.encryption = Encryption::kAll;
  const auto refused = open_transports(all, {"sim"}, options);
  REQUIRE_FALSE(refused.ok());
  CHECK(has(refused.status().message(), "LONGSPAN_ENCRYPT=all"));
  options.encryption = Encryption::kWan;
  const auto opened = open_transports(all, {"sim"}, options);
  REQUIRE(opened.ok());
  CHECK(opened->front().offer.limit == Tier::kRegion);
}
