#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "longspan/status.hpp"
#include "longspan/topology.hpp"

// Quantities as people write them: a number, an optional space, a unit. k and K are 1000, Ki is 1024; b is bits, B is
// bytes. Failures are kInvalidArgument with "found ..., expected ...", and no position: the caller knows where it read.
namespace longspan {

/// "1 Gbit/s", "800Mb/s", "2 GiB/s", "125e6 B/s". Zero is a bandwidth here; whoever divides by it must refuse it.
Result<Bandwidth> parse_bandwidth(std::string_view text);
/// "20 ms", "50us", "1.5 s", "2 min", "300 ns". Never negative.
Result<Latency> parse_time(std::string_view text);
/// "8 MB", "64 KiB", "512 B", "64 Mbit": a whole number of bytes below 2^63.
Result<std::uint64_t> parse_bytes(std::string_view text);
/// A size on a command line as nccl-tests reads it: "64M", "1G", "8", "1.5K"; K, M, G and T are powers of 1024, with or
/// without a final B or iB.
Result<std::uint64_t> parse_size(std::string_view text);

/// For people, four digits: "1 Gbit/s", "62.5 Mbit/s".
std::string format_bandwidth(Bandwidth bandwidth);
/// For people, four digits: "20 ms", "1.5 s".
std::string format_time(Latency time);
/// For people: in powers of 1000 when that is exact or 1024 is not, so "8 MB" stays "8 MB" and 65536 is "64 KiB".
std::string format_bytes(std::uint64_t bytes);

/// Text that the parser of the same quantity reads back to exactly this value; the shortest such in common units.
std::string exact_bandwidth(Bandwidth bandwidth);
std::string exact_time(Latency time);
std::string exact_bytes(std::uint64_t bytes);

}  // namespace longspan
