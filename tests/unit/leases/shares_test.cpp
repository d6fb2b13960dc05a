#include <rapidcheck.h>

#include <vector>

#include "runtime/link_shares.hpp"
#include "support/catch.hpp"

using namespace longspan::runtime;

namespace {

double total(const std::vector<Claim>& claims, double fill) {
  double sum = 0;
  for (const Claim& claim : claims) sum += share_of(claim, fill);
  return sum;
}

std::vector<Claim> some_claims() {
  std::vector<Claim> claims;
  const auto count = *rc::gen::inRange(0, 12);
  for (int i = 0; i < count; ++i) {
    claims.push_back(
        {static_cast<double>(*rc::gen::inRange(0, 1000)), static_cast<double>(*rc::gen::inRange(0, 2000))});
  }
  return claims;
}

}  // namespace

TEST_CASE("Who is alone gets what its plan gave it, and more only where it has use for it") {
  const std::vector<Claim> collective{{500, 500}};
  CHECK(share_of(collective[0], fill_level(collective, 1000)) == 500);
  const std::vector<Claim> send{{250, 1000}};
  CHECK(share_of(send[0], fill_level(send, 1000)) == 1000);
}

TEST_CASE("Two communicators that each planned for the whole link get half of it each") {
  const std::vector<Claim> claims{{500, 500}, {500, 500}, {500, 500}, {500, 500}};
  const double fill = fill_level(claims, 1000);
  for (const Claim& claim : claims) CHECK(share_of(claim, fill) == 250);
}

TEST_CASE("What one has no use for goes to the others in proportion to their weights") {
  const std::vector<Claim> claims{{100, 50}, {100, 1000}, {300, 1000}};
  const double fill = fill_level(claims, 850);
  CHECK(share_of(claims[0], fill) == 50);
  CHECK(share_of(claims[1], fill) == 200);
  CHECK(share_of(claims[2], fill) == 600);
}

TEST_CASE("Shares never exceed the budget, and leave nothing that somebody could use") {
  CHECK(rc::check([] {
    const std::vector<Claim> claims = some_claims();
    const double budget = *rc::gen::inRange(1, 5000);
    const double fill = fill_level(claims, budget);
    const double used = total(claims, fill);
    RC_ASSERT(used <= budget * (1 + 1e-9));
    double usable = 0;
    for (const Claim& claim : claims) usable += claim.weight > 0 ? claim.cap : 0;
    RC_ASSERT(used >= std::min(budget, usable) * (1 - 1e-9));
  }));
}
