#include <rapidcheck.h>

#include <algorithm>
#include <array>

#include "clusters.hpp"
#include "planner/tier_transports.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::planner;
using spi::Medium;

namespace {

EndpointOffer offer(std::string name, Medium medium, Tier reach, double gbit = 0) {
  EndpointOffer made;
  made.transport = std::move(name);
  made.traits.medium = medium;
  made.traits.reach = reach;
  made.traits.rate_bytes_per_second = gbit * 1e9 / 8;
  if (medium == Medium::kMemory) made.limit = Tier::kHost;
  return made;
}

const EndpointOffer kShm = offer("shm", Medium::kMemory, Tier::kHost);
const EndpointOffer kTcp = offer("tcp", Medium::kIp, Tier::kWan);
const EndpointOffer kVerbs = offer("verbs", Medium::kRdma, Tier::kSite, 100);

EndpointOffer general(EndpointOffer made) {  // as UCX is
  made.transport = "ucx";
  made.traits.preference = 10;
  return made;
}

EndpointOffer unusable(EndpointOffer made, std::string reason) {
  made.unusable = std::move(reason);
  return made;
}

EndpointOffer named(EndpointOffer made) {
  made.named = true;
  return made;
}

using Offers = std::vector<EndpointOffer>;

std::string chosen(const Offers& a, const Offers& b, Tier tier) { return choose_transport(a, b, tier).transport; }

std::string reason_against(const TransportChoice& choice, const std::string& transport) {
  for (const PassedOver& each : choice.passed) {
    if (each.transport == transport) return each.reason;
  }
  return "(not passed over)";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Each tier gets the transport that is best there") {
  const Offers all{kShm, kTcp, kVerbs, general(kVerbs)};
  CHECK(chosen(all, all, Tier::kHost) == "shm");
  CHECK(chosen(all, all, Tier::kRack) == "verbs");
  CHECK(chosen(all, all, Tier::kSite) == "verbs");
  CHECK(chosen(all, all, Tier::kRegion) == "tcp");
  CHECK(chosen(all, all, Tier::kWan) == "tcp");
  const TransportChoice rack = choose_transport(all, all, Tier::kRack);
  CHECK(has(rack.reason, "RDMA, 100 Gbit/s"));
  CHECK(reason_against(rack, "shm") == "joins ranks of one host only");
  CHECK(reason_against(rack, "tcp") == "IP comes after RDMA");
  CHECK(has(reason_against(rack, "ucx"), "a general layer; verbs is made for RDMA"));
}

TEST_CASE("What does more on top of another transport is taken before it, and says what") {
  EndpointOffer more = offer("cuda_ipc", Medium::kMemory, Tier::kHost);
  more.traits.preference = -1;
  more.traits.detail = "device memory by CUDA IPC";
  const Offers both{kShm, more, kTcp};
  const TransportChoice choice = choose_transport(both, both, Tier::kHost);
  CHECK(choice.transport == "cuda_ipc");
  CHECK(reason_against(choice, "shm") == "cuda_ipc does what it does, and more (device memory by CUDA IPC)");
  CHECK(chosen(both, {kShm, kTcp}, Tier::kHost) == "shm");
}

TEST_CASE("A pair in which one side lacks a transport takes the next, and says whose it is") {
  const Offers with{kShm, kTcp, kVerbs};
  const Offers without{kShm, kTcp, unusable(kVerbs, "no RDMA device")};
  const TransportChoice choice = choose_transport(with, without, Tier::kRack, "rank 0", "rank 3");
  CHECK(choice.transport == "tcp");
  CHECK(reason_against(choice, "verbs") == "rank 3: no RDMA device");
  CHECK(chosen(without, with, Tier::kRack) == "tcp");
  CHECK(has(reason_against(choose_transport(with, Offers{kTcp}, Tier::kRack), "verbs"),
            "the other rank does not have it"));
}

TEST_CASE("General layers stand behind what is made for a medium, and before nothing") {
  const Offers ip{kTcp, general(offer("", Medium::kIp, Tier::kRegion))};
  CHECK(chosen(ip, ip, Tier::kRack) == "tcp");
  const Offers rdma{kTcp, general(kVerbs)};
  CHECK(chosen(rdma, rdma, Tier::kRack) == "ucx");
  CHECK(chosen(rdma, ip, Tier::kRack) == "tcp");  // UCX of both is only as good as its worse side
}

TEST_CASE("Across regions only what reaches that far is used, unless both sides name it") {
  const Offers verbs{named(kVerbs)};
  CHECK(chosen(verbs, verbs, Tier::kWan) == "verbs");
  CHECK(chosen(verbs, {kVerbs}, Tier::kWan).empty());
  CHECK(has(reason_against(choose_transport(verbs, Offers{kVerbs}, Tier::kWan), "verbs"),
            "name it in LONGSPAN_TRANSPORTS"));
  const Offers both{named(kVerbs), named(kTcp)};
  CHECK(chosen(both, both, Tier::kWan) == "tcp");
  Offers clear = verbs;
  clear[0].limit = Tier::kRegion;  // a key, and it cannot encrypt
  CHECK(chosen(clear, verbs, Tier::kWan).empty());
  CHECK(has(reason_against(choose_transport(clear, verbs, Tier::kWan), "verbs"), "does not encrypt"));
}

TEST_CASE("A much faster card is taken although another medium is better, where both state their rates") {
  const auto tcp = [](double gbit) { return offer("tcp", Medium::kIp, Tier::kWan, gbit); };
  const auto verbs = [](double gbit) { return offer("verbs", Medium::kRdma, Tier::kSite, gbit); };
  const auto pick = [](const Offers& offers) { return chosen(offers, offers, Tier::kRack); };
  CHECK(pick({tcp(10), verbs(10)}) == "verbs");
  CHECK(pick({tcp(14), verbs(10)}) == "verbs");
  CHECK(pick({tcp(15), verbs(10)}) == "tcp");
  CHECK(pick({tcp(100), verbs(0)}) == "verbs");
  CHECK(pick({tcp(0), verbs(10)}) == "verbs");
  const auto ucx = [](double gbit) { return general(offer("ucx", Medium::kRdma, Tier::kSite, gbit)); };
  CHECK(pick({ucx(10), verbs(10)}) == "verbs");
  CHECK(pick({ucx(40), verbs(10)}) == "ucx");
  CHECK(pick({ucx(40), verbs(10), tcp(100)}) == "tcp");
}

TEST_CASE("Endpoints in different networks do not reach each other") {
  EndpointOffer one = kVerbs, two = kVerbs;
  one.traits.fabric = "ib fe80::1";
  two.traits.fabric = "ib fe80::2";
  const TransportChoice choice = choose_transport(Offers{one, kTcp}, Offers{two, kTcp}, Tier::kRack);
  CHECK(choice.transport == "tcp");
  CHECK(has(reason_against(choice, "verbs"), "ib fe80::2"));
  two.traits.fabric.clear();
  CHECK(chosen({one}, {two}, Tier::kRack) == "verbs");
}

TEST_CASE("Both ends of any pair choose the same transport, in whatever order they list them") {
  const bool held = rc::check("choice is symmetric", [] {
    const auto draw = [](const char* name) {
      EndpointOffer made;
      made.transport = name;
      made.traits.medium = static_cast<Medium>(*rc::gen::inRange(0, spi::kMediumCount));
      made.traits.reach = static_cast<Tier>(*rc::gen::inRange(1, kTierCount));
      made.limit = static_cast<Tier>(*rc::gen::inRange(1, kTierCount));
      made.traits.rate_bytes_per_second = *rc::gen::element(0.0, 1e9, 1.5e9, 2e9, 3e9);
      made.traits.latency = std::chrono::nanoseconds(*rc::gen::element(0, 1000, 2000));
      made.traits.preference = *rc::gen::inRange(0, 2);
      made.traits.fabric = *rc::gen::element(std::string(), std::string("x"), std::string("y"));
      made.named = *rc::gen::arbitrary<bool>();
      if (*rc::gen::inRange(0, 4) == 0) made.unusable = "none here";
      return made;
    };
    const auto some = [&draw] {
      Offers offers;
      for (const char* name : {"a", "b", "c", "d"}) {
        if (*rc::gen::inRange(0, 5) > 0) offers.push_back(draw(name));
      }
      return offers;
    };
    Offers mine = some();
    const Offers theirs = some();
    const auto tier = static_cast<Tier>(*rc::gen::inRange(1, kTierCount));
    const TransportChoice here = choose_transport(mine, theirs, tier);
    const TransportChoice there = choose_transport(theirs, mine, tier);
    RC_ASSERT(here.transport == there.transport);
    RC_ASSERT(here.traits.rate_bytes_per_second == there.traits.rate_bytes_per_second);
    RC_ASSERT(here.traits.latency == there.traits.latency);
    std::reverse(mine.begin(), mine.end());
    RC_ASSERT(choose_transport(mine, theirs, tier).transport == here.transport);
    // Every other transport has its reason.
    for (const Offers* side : {&std::as_const(mine), &theirs}) {
      for (const EndpointOffer& each : *side) {
        RC_ASSERT(each.transport == here.transport || !reason_against(here, each.transport).empty());
      }
    }
  });
  CHECK(held);
}

TEST_CASE("Tiers are listed from the host outwards, each with the transports that its pairs use") {
  Cluster cluster = longspan::testing::regions_of({2, 2}, 10e9, 1e9, 0.02, 2);  // ranks 0 1 | 2 3 || 4 5 | 6 7
  std::vector<Offers> offers(8, {kShm, kTcp, kVerbs});
  for (const std::size_t rank : {6U, 7U}) offers[rank] = {kShm, kTcp, unusable(kVerbs, "no RDMA device")};
  const auto tiers = transports_by_tier(cluster, offers);
  std::string text;
  for (const TierTransport& each : tiers) {
    text += std::string(name_of(each.tier)) + " " + each.choice.transport + " " + std::to_string(each.from) + "-" +
            std::to_string(each.to) + "; ";
    CHECK(cluster.tier_between(each.from, each.to) == each.tier);
  }
  CHECK(text == "host shm 0-1; rack verbs 0-2; rack tcp 4-6; wan tcp 0-4; ");
}

TEST_CASE("One set of offers stands for all ranks, and a host alone has no tier beyond its own") {
  const std::array<Offers, 1> same{Offers{kShm, kTcp}};
  const auto tiers = transports_by_tier(longspan::testing::regions_of({1}, 0, 0, 0, 4), same);
  REQUIRE(tiers.size() == 1);
  CHECK(tiers[0].choice.transport == "shm");
}

TEST_CASE("What transports state of a tier is what it is priced by") {
  EndpointOffer verbs = kVerbs;
  verbs.traits.latency = std::chrono::microseconds(4);
  const std::array<Offers, 1> fast{Offers{kShm, kTcp, verbs}};
  const CostParameters assumed;
  CostParameters priced;
  planner::apply(transports_by_tier(longspan::testing::regions_of({2, 2}, 0, 1e9, 0.02, 2), fast), priced);
  CHECK(longspan::testing::near(priced.message_seconds[static_cast<std::size_t>(Tier::kRack)], 4e-6));
  CHECK(priced.message_seconds[static_cast<std::size_t>(Tier::kHost)] ==
        assumed.message_seconds[static_cast<std::size_t>(Tier::kHost)]);
  CHECK(priced.message_seconds[static_cast<std::size_t>(Tier::kWan)] ==
        assumed.message_seconds[static_cast<std::size_t>(Tier::kWan)]);
  CHECK(priced.nic_bytes_per_second == 100e9 / 8);
}
