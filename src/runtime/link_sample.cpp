#include "runtime/link_sample.hpp"

#include <algorithm>
#include <cmath>

namespace longspan::runtime {
namespace {

constexpr std::array kCounts{&LinkCounts::delivered,      &LinkCounts::allowed,       &LinkCounts::waited_delivered,
                             &LinkCounts::waited_allowed, &LinkCounts::waited_stated, &LinkCounts::packets,
                             &LinkCounts::retransmits};

}  // namespace

LinkCounts LinkCounts::towards(const LinkCounts& later, double part) const {
  LinkCounts between;
  for (const auto count : kCounts) between.*count = this->*count + part * (later.*count - this->*count);
  return between;
}

LinkCounts& LinkCounts::operator+=(const LinkCounts& other) {
  for (const auto count : kCounts) this->*count += other.*count;
  return *this;
}

LinkCounts& LinkCounts::operator-=(const LinkCounts& other) {
  for (const auto count : kCounts) this->*count -= other.*count;
  return *this;
}

bool LinkCounts::sane() const {
  return std::all_of(kCounts.begin(), kCounts.end(),
                     [this](auto count) { return this->*count >= 0 && std::isfinite(this->*count); });
}

}  // namespace longspan::runtime
