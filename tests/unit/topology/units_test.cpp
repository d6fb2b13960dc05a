#include "base/units.hpp"

#include <rapidcheck.h>

#include <array>
#include <string>

#include "base/nearest.hpp"
#include "base/rank_list.hpp"
#include "support/catch.hpp"

using namespace longspan;

TEST_CASE("A bandwidth is read in bits or bytes, with prefixes of 1000 and 1024") {
  const auto bytes = [](std::string_view text) { return parse_bandwidth(text).value().bytes_per_second; };
  CHECK(bytes("1 Gbit/s") == 125e6);
  CHECK(bytes("1Gbit/s") == 125e6);
  CHECK(bytes("1 Gb/s") == 125e6);
  CHECK(bytes("1 GB/s") == 1e9);
  CHECK(bytes("1 GiB/s") == 1073741824.0);
  CHECK(bytes("1 Kibit/s") == 128.0);
  CHECK(bytes("8 kbit/s") == 1000.0);
  CHECK(bytes("8 Kbit/s") == 1000.0);
  CHECK(bytes("8 bit/s") == 1.0);
  CHECK(bytes("1.5 Tbit/s") == 187.5e9);
  CHECK(bytes("5e8 B/s") == 5e8);
  CHECK(bytes("0 bit/s") == 0.0);
  CHECK(bytes(".5 Mb/s") == 62500.0);
}

TEST_CASE("A time is read in ns, us, ms, s and min") {
  const auto seconds = [](std::string_view text) { return parse_time(text).value().count(); };
  CHECK(seconds("20 ms") == 0.02);
  CHECK(seconds("50us") == 50e-6);
  CHECK(seconds("300 ns") == 300e-9);
  CHECK(seconds("1.5 s") == 1.5);
  CHECK(seconds("5 min") == 300.0);
  CHECK(seconds("0 s") == 0.0);
}

TEST_CASE("An amount of data is a whole number of bytes") {
  CHECK(parse_bytes("8 MB").value() == 8'000'000);
  CHECK(parse_bytes("64 KiB").value() == 65536);
  CHECK(parse_bytes("64 Mbit").value() == 8'000'000);
  CHECK(parse_bytes("1.5 kB").value() == 1500);
  CHECK(parse_bytes("9007199254740993 B").value() == 9007199254740993U);
  CHECK(parse_bytes("8 b").value() == 1);
}

TEST_CASE("A size on a command line counts in powers of 1024, as nccl-tests does") {
  CHECK(parse_size("64M").value() == 64U << 20);
  CHECK(parse_size("1G").value() == 1U << 30);
  CHECK(parse_size("8").value() == 8);
  CHECK(parse_size("0").value() == 0);
  CHECK(parse_size("1.5K").value() == 1536);
  CHECK(parse_size("4KiB").value() == 4096);
  CHECK(parse_size("4kB").value() == 4096);
  CHECK(parse_size("100B").value() == 100);
  CHECK(parse_size("2T").value() == 2ULL << 40);
  CHECK(parse_size("9223372036854775807").value() == 9223372036854775807U);
}

TEST_CASE("A quantity that cannot be read is refused with what was found, why, and what was expected") {
  struct Case {
    std::string said;
    std::string expected;
  };
  const auto bandwidth = [](std::string_view text) { return std::string(parse_bandwidth(text).status().message()); };
  const auto time = [](std::string_view text) { return std::string(parse_time(text).status().message()); };
  const auto bytes = [](std::string_view text) { return std::string(parse_bytes(text).status().message()); };
  const auto size = [](std::string_view text) { return std::string(parse_size(text).status().message()); };
  const std::array<Case, 21> cases{{
      {bandwidth(""), "found \"\": nothing, expected a bandwidth such as"},
      {bandwidth("fast"), "\"fast\": no number"},
      {bandwidth("-1 Gbit/s"), "\"-1 Gbit/s\": negative"},
      {bandwidth("nan Gbit/s"), "no number"},
      {bandwidth("inf bit/s"), "no number"},
      {bandwidth("1e999 bit/s"), "out of range"},
      {bandwidth("1e308 Tbit/s"), "out of range"},
      {bandwidth("1"), "no unit"},
      {bandwidth("1 Gbit"), "not one per second"},
      {bandwidth("1 gbit/s"), "unknown unit"},
      {bandwidth("1 mbit/s"), "unknown unit"},
      {bandwidth("1  Gbit/s"), "more than one space"},
      {bandwidth("0x10 Gbit/s"), "unknown unit"},
      {time("20"), "no unit, expected a time such as \"20 ms\""},
      {time("20 m"), "unknown unit"},
      {time("-20 ms"), "negative"},
      {bytes("1.5 B"), "not a whole number of bytes"},
      {bytes("8 MB/s"), "unknown unit"},
      {bytes("9223372036854775808 B"), "too large"},
      {size("64Q"), "\"64Q\": unknown unit, expected a size such as 8, 64K"},
      {size("-1"), "negative"},
  }};
  for (const Case& c : cases) {
    INFO(c.said);
    CHECK(c.said.find(c.expected) != std::string::npos);
  }
}

TEST_CASE("Quantities are shown with four digits in the largest fitting unit") {
  CHECK(format_bandwidth({125e6}) == "1 Gbit/s");
  CHECK(format_bandwidth({7.8125e6}) == "62.5 Mbit/s");
  CHECK(format_bandwidth({0}) == "0 bit/s");
  CHECK(format_bandwidth({124.9999e6}) == "1 Gbit/s");
  CHECK(format_time(Latency{0.02}) == "20 ms");
  CHECK(format_time(Latency{0}) == "0 s");
  CHECK(format_time(Latency{50e-6}) == "50 us");
  CHECK(format_time(Latency{120}) == "120 s");
  CHECK(format_bytes(8'000'000) == "8 MB");
  CHECK(format_bytes(65536) == "64 KiB");
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1) == "1 B");
}

TEST_CASE("The exact form of a quantity is read back to the same value") {
  CHECK(exact_bandwidth({125e6}) == "1 Gbit/s");
  CHECK(exact_time(Latency{0.02}) == "20 ms");
  CHECK(exact_bytes(8'000'000) == "8 MB");
  CHECK(rc::check("bandwidth", [] {
    const double value = *rc::gen::nonNegative<double>();
    RC_ASSERT(parse_bandwidth(exact_bandwidth({value})).value().bytes_per_second == value);
  }));
  CHECK(rc::check("time", [] {
    const double value = *rc::gen::nonNegative<double>();
    RC_ASSERT(parse_time(exact_time(Latency{value})).value().count() == value);
  }));
  CHECK(rc::check("bytes", [] {
    const auto value = *rc::gen::arbitrary<std::uint64_t>() >> *rc::gen::inRange(1, 64);
    RC_ASSERT(parse_bytes(exact_bytes(value)).value() == value);
  }));
}

TEST_CASE("The nearest name is offered only when it is near") {
  constexpr std::array<std::string_view, 3> kNames{"address", "region", "nic"};
  CHECK(did_you_mean("adress", kNames) == " (did you mean 'address'?)");
  CHECK(did_you_mean("Region", kNames) == " (did you mean 'region'?)");
  CHECK(did_you_mean("regoin", kNames) == " (did you mean 'region'?)");
  CHECK(did_you_mean("inc", kNames) == " (did you mean 'nic'?)");
  CHECK(did_you_mean("bandwidth", kNames).empty());
  CHECK(did_you_mean("x", kNames).empty());
  CHECK(did_you_mean("", kNames).empty());
}

TEST_CASE("Ranks are listed with runs shortened") {
  const auto list = [](std::vector<int> ranks) { return rank_list(ranks); };
  CHECK(list({3}) == "rank 3");
  CHECK(list({1, 2}) == "ranks 1, 2");
  CHECK(list({0, 2, 5, 6, 7, 9}) == "ranks 0, 2, 5-7, 9");
  std::vector<int> odd;
  for (int i = 0; i < 20; ++i) odd.push_back(2 * i + 1);
  CHECK(list(odd).ends_with(", 31 and 4 more"));
}
