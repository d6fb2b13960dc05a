#include "planner/transport_choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "planner/text.hpp"

namespace longspan::planner {
namespace {

/// What is less suited has to be this much faster: IP, and general layers, cost the cores more.
constexpr double kWorthLessSuited = 1.5;

/// What both ends have of one transport.
struct Joined {
  std::string_view name;
  spi::EndpointTraits traits;
  bool by_itself = true;  // reaches that far without being named
};

const EndpointOffer* find(std::span<const EndpointOffer> offers, std::string_view transport) {
  const auto found = std::find_if(offers.begin(), offers.end(),
                                  [&](const EndpointOffer& each) { return each.transport == transport; });
  return found == offers.end() ? nullptr : &*found;
}

/// What a rank lacks of a transport; empty: nothing.
std::string lack(const EndpointOffer* offer, std::string_view whose) {
  if (offer == nullptr) return fmt::format("{} does not have it", whose);
  return offer->unusable.empty() ? std::string() : fmt::format("{}: {}", whose, offer->unusable);
}

spi::EndpointTraits both(const spi::EndpointTraits& a, const spi::EndpointTraits& b) {
  spi::EndpointTraits all = a;
  all.medium = std::max(a.medium, b.medium);
  all.reach = std::min(a.reach, b.reach);
  all.preference = std::max(a.preference, b.preference);
  const bool both_know = std::min(a.latency, b.latency).count() > 0;
  all.latency = both_know ? std::max(a.latency, b.latency) : std::chrono::nanoseconds(0);
  all.rate_bytes_per_second = std::min(a.rate_bytes_per_second, b.rate_bytes_per_second);
  if (all.fabric.empty()) all.fabric = b.fabric;
  return all;
}

std::string rate_of(const spi::EndpointTraits& traits) {
  return traits.rate_bytes_per_second > 0 ? rate_text(traits.rate_bytes_per_second) : "a rate that is not stated";
}

/// Less is better.
auto order(const Joined& joined) {
  const spi::EndpointTraits& t = joined.traits;
  const bool known = t.latency.count() > 0;
  return std::tuple(!joined.by_itself, t.medium, t.preference, -t.rate_bytes_per_second, !known, t.latency,
                    joined.name);
}

bool much_faster(const Joined& other, const Joined& first) {
  const double rate = first.traits.rate_bytes_per_second;
  return rate > 0 && other.by_itself == first.by_itself &&
         other.traits.rate_bytes_per_second >= kWorthLessSuited * rate;
}

bool faster(const Joined& a, const Joined& b) {
  return std::pair(-a.traits.rate_bytes_per_second, order(a)) < std::pair(-b.traits.rate_bytes_per_second, order(b));
}

std::string why_not(const Joined& passed, const Joined& taken) {
  if (passed.by_itself != taken.by_itself) {
    return fmt::format("it reaches that far only because it is named; {} does so by itself", taken.name);
  }
  const spi::EndpointTraits& a = passed.traits;
  const spi::EndpointTraits& b = taken.traits;
  if (a.medium > b.medium) return fmt::format("{} comes after {}", name_of(a.medium), name_of(b.medium));
  if (a.preference > b.preference && b.preference < 0) {
    return fmt::format("{} does what it does, and more ({})", taken.name, b.detail);
  }
  if (a.preference > b.preference) {
    return fmt::format("a general layer; {} is made for {}", taken.name, name_of(b.medium));
  }
  if (a.rate_bytes_per_second < b.rate_bytes_per_second) {
    return fmt::format("{}, {} has {}", rate_of(a), taken.name, rate_of(b));
  }
  if (a.latency != b.latency) return fmt::format("{} has the lower latency", taken.name);
  return fmt::format("as good as {}, which has the first name", taken.name);
}

std::string why(const Joined& taken, Tier tier, std::size_t usable) {
  std::string text(name_of(taken.traits.medium));
  if (taken.traits.rate_bytes_per_second > 0) text += ", " + rate_text(taken.traits.rate_bytes_per_second);
  if (taken.traits.latency.count() > 0) {
    text += fmt::format(", {} a message", time_text(static_cast<double>(taken.traits.latency.count()) * 1e-9));
  }
  if (!taken.traits.detail.empty()) text += fmt::format(" ({})", taken.traits.detail);
  if (!taken.by_itself) return text + "; named in LONGSPAN_TRANSPORTS";
  if (tier == Tier::kWan) return text + "; paced, made for long links";
  return text + (usable == 1 ? "; the only one that joins them" : "; the best that both have");
}

/// Sorts the transports of both ranks into those that join them and the others.
class Survey {
 public:
  Survey(std::span<const EndpointOffer> mine, std::span<const EndpointOffer> theirs, Tier tier, std::string_view side,
         std::string_view other)
      : mine_(mine), theirs_(theirs), tier_(tier), side_(side), other_(other) {
    for (const EndpointOffer& offer : mine) look(offer.transport);
    for (const EndpointOffer& offer : theirs) {
      if (find(mine, offer.transport) == nullptr) look(offer.transport);
    }
  }
  std::vector<Joined> usable;
  std::vector<PassedOver> passed;

 private:
  void look(const std::string& name) {
    const EndpointOffer* a = find(mine_, name);
    const EndpointOffer* b = find(theirs_, name);
    const auto pass = [&](std::string reason) { passed.push_back({name, std::move(reason)}); };
    const std::string missing = lack(a, side_), missing_there = lack(b, other_);
    if (!missing.empty() && !missing_there.empty() && a != nullptr && b != nullptr && a->unusable == b->unusable) {
      return pass(a->unusable);
    }
    if (!missing.empty()) return pass(missing);
    if (!missing_there.empty()) return pass(missing_there);
    const Tier limit = std::min(a->limit, b->limit);
    if (tier_ > limit) {
      return pass(limit <= Tier::kHost
                      ? std::string("joins ranks of one host only")
                      : std::string("does not encrypt, and LONGSPAN_ENCRYPT asks for it between regions"));
    }
    if (!a->traits.fabric.empty() && !b->traits.fabric.empty() && a->traits.fabric != b->traits.fabric) {
      return pass(fmt::format("other networks: {} at {}, {} at {}", a->traits.fabric, side_, b->traits.fabric, other_));
    }
    Joined joined{a->transport, both(a->traits, b->traits), true};
    joined.by_itself = tier_ <= joined.traits.reach;
    if (!joined.by_itself && !(a->named && b->named)) {
      return pass(
          fmt::format("meant for ranks up to one {}; to use it farther, name it in LONGSPAN_TRANSPORTS on all ranks",
                      longspan::name_of(joined.traits.reach)));
    }
    usable.push_back(std::move(joined));
  }

  std::span<const EndpointOffer> mine_, theirs_;
  Tier tier_;
  std::string_view side_, other_;
};

}  // namespace

std::string_view name_of(spi::Medium medium) noexcept {
  switch (medium) {
    case spi::Medium::kMemory: return "memory";
    case spi::Medium::kDevice: return "links between devices";
    case spi::Medium::kRdma: return "RDMA";
    case spi::Medium::kIp: break;
  }
  return "IP";
}

TransportChoice choose_transport(std::span<const EndpointOffer> mine, std::span<const EndpointOffer> theirs, Tier tier,
                                 std::string_view side, std::string_view other) {
  Survey survey(mine, theirs, tier, side, other);
  TransportChoice choice;
  choice.passed = std::move(survey.passed);
  if (survey.usable.empty()) return choice;
  const auto better = [](const Joined& a, const Joined& b) { return order(a) < order(b); };
  const Joined& first = *std::min_element(survey.usable.begin(), survey.usable.end(), better);
  const Joined* taken = &first;
  for (const Joined& each : survey.usable) {
    if (much_faster(each, first) && (taken == &first || faster(each, *taken))) taken = &each;
  }
  choice.transport = std::string(taken->name);
  choice.traits = taken->traits;
  choice.reason = why(*taken, tier, survey.usable.size());
  if (taken != &first) choice.reason += fmt::format("; {} has {}", first.name, rate_of(first.traits));
  for (const Joined& each : survey.usable) {
    if (&each == taken) continue;
    choice.passed.push_back({std::string(each.name), taken != &first && &each == &first
                                                         ? fmt::format("slower: {}", rate_of(each.traits))
                                                         : why_not(each, *taken)});
  }
  return choice;
}

}  // namespace longspan::planner
